"""The distribution of template.yaml: which path leads where, what is cached, and what proves that a request came through it."""

import fnmatch
import json
import re
from typing import Any

import pytest

from aideer.core import settings
from aideer.web import origin
from local.stack.template import Template
from tests.transformed import Stack

DOMAIN = {"DomainName": "chat.example.com", "CertificateArn": "arn:aws:acm:us-east-1:123456789012:certificate/c"}
WEB_ACL = "arn:aws:wafv2:us-east-1:123456789012:global/webacl/w/1"
CACHING_DISABLED = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"
ALL_VIEWER_EXCEPT_HOST = "b689b0a8-53d0-40ab-baf2-68738e2966ac"
METHODS = {"GET", "HEAD", "OPTIONS", "PUT", "PATCH", "POST", "DELETE"}


def distribution(**parameters: str) -> dict[str, Any]:
    [found] = Stack(**{**DOMAIN, **parameters}).of_type("AWS::CloudFront::Distribution").values()
    configuration: dict[str, Any] = found["DistributionConfig"]
    return configuration


def behaviour(configuration: dict[str, Any], path: str) -> dict[str, Any]:
    """The behaviour of a path: of the first pattern that fits."""
    for each in configuration["CacheBehaviors"]:
        if fnmatch.fnmatchcase(path, each["PathPattern"]):
            found: dict[str, Any] = each
            return found
    default: dict[str, Any] = configuration["DefaultCacheBehavior"]
    return default


def test_without_a_domain_there_is_nothing_of_it() -> None:
    stack = Stack()
    assert not [name for name, r in stack.resources.items() if r["Type"].startswith("AWS::CloudFront::")]
    assert "OriginSecret" not in stack.resources
    for function in stack.of_type("AWS::Lambda::Function").values():
        variables = function["Environment"]["Variables"]
        assert (variables["ORIGIN_SECRETS"], variables["DOMAIN_REQUIRED"]) == ("", "false")


@pytest.mark.parametrize(
    ("path", "origin_id"),
    [
        ("/api/v1/tasks/stream", "streams"),
        ("/api/v1/ui/chat", "streams"),
        ("/api/v1/ui/chat/zEvEPvEPlpQKyGYt/stream", "streams"),
        ("/api/v1/ui/chat/zEvEPvEPlpQKyGYt/stop", "streams"),
        ("/api/v1/tasks/01980c2f-8d6c-7e42-a15b-7c8d9e0f1a2b/stream", "streams"),
        ("/api/v1/tasks/01980c2f-8d6c-7e42-a15b-7c8d9e0f1a2b/poll", "api"),
        ("/api/v1/tasks/01980c2f-8d6c-7e42-a15b-7c8d9e0f1a2b", "api"),
        ("/api/v1/tasks", "api"),
        ("/api/v1/users/me", "api"),
        ("/docs", "api"),
        ("/openapi.json", "api"),
        ("/", "api"),
    ],
)
def test_a_path_leads_to_what_answers_it(path: str, origin_id: str) -> None:
    assert behaviour(distribution(), path)["TargetOriginId"] == origin_id


def test_every_route_of_the_api_but_the_stream_leads_to_the_api() -> None:
    """A pattern that shadows an endpoint is a fault that only a deployment with a domain would show."""
    configuration = distribution()
    for function in Template().functions.values():
        for event in function.events:
            if event.type == "HttpApi":
                path = re.sub(r"\{\w+\}", "01980c2f", event.properties["Path"])
                expected = "streams" if path == "/api/v1/tasks/01980c2f/stream" else "api"
                assert behaviour(configuration, path)["TargetOriginId"] == expected, path


def test_without_a_lambda_url_everything_leads_to_the_api() -> None:
    configuration = distribution(LambdaUrl="false")
    assert [each["Id"] for each in configuration["Origins"]] == ["api"]
    assert behaviour(configuration, "/api/v1/tasks/x/stream")["TargetOriginId"] == "api"


def test_nothing_of_the_api_is_cached_and_no_stream_is_compressed() -> None:
    configuration = distribution()
    for path in ("/api/v1/chats", "/api/v1/tasks/x/stream", "/api/v1/tasks/stream", "/api/v1/ui/chat", "/"):
        found = behaviour(configuration, path)
        assert (found["CachePolicyId"], found["Compress"]) == (CACHING_DISABLED, False)
        assert found["OriginRequestPolicyId"] == ALL_VIEWER_EXCEPT_HOST, "the host is how AWS finds the API"
        assert set(found["AllowedMethods"]) == METHODS


def test_the_documents_are_kept_as_long_as_they_say_and_apart_by_their_coding() -> None:
    found = behaviour(distribution(), "/docs")
    assert (found["CachePolicyId"], found["Compress"]) == ("DocumentsCachePolicy-id", True)
    [policy] = Stack(**DOMAIN).of_type("AWS::CloudFront::CachePolicy").values()
    configuration = policy["CachePolicyConfig"]
    assert (configuration["MinTTL"], configuration["DefaultTTL"]) == (0, 0)
    assert configuration["ParametersInCacheKeyAndForwardedToOrigin"]["EnableAcceptEncodingGzip"] is True


def test_all_origins_wait_a_minute_use_tls_and_get_the_secret() -> None:
    configuration = distribution()
    assert [each["Id"] for each in configuration["Origins"]] == ["api", "streams", "v1"]
    for each in configuration["Origins"]:
        assert each["CustomOriginConfig"] == {
            "OriginProtocolPolicy": "https-only",
            "OriginSSLProtocols": ["TLSv1.2"],
            "OriginReadTimeout": 60,
        }
        [header] = each["OriginCustomHeaders"]
        assert header["HeaderName"].lower() == origin.SECRET_HEADER
        assert header["HeaderValue"] == "{{resolve:secretsmanager:OriginSecret-id:SecretString:current::}}"
    assert configuration["Origins"][0]["DomainName"] == "Api-id.execute-api.us-east-1.amazonaws.com"
    assert configuration["Origins"][1]["DomainName"] == "tasksstreamliveurl.lambda-url.on.test"
    assert configuration["Origins"][2]["DomainName"] == "v1url.lambda-url.on.test"


def test_the_viewers_address_replaces_what_the_viewer_wrote_on_every_path() -> None:
    configuration = distribution()
    for each in [configuration["DefaultCacheBehavior"], *configuration["CacheBehaviors"]]:
        [association] = each["FunctionAssociations"]
        assert (association["EventType"], association["FunctionARN"]) == (
            "viewer-request",
            "ViewerAddressFunction.FunctionARN",
        )
    [function] = Stack(**DOMAIN).of_type("AWS::CloudFront::Function").values()
    assert f"event.request.headers['{origin.ADDRESS_HEADER}'] = {{value: event.viewer.ip}}" in function["FunctionCode"]


def test_the_domain_is_served_over_tls_only() -> None:
    configuration = distribution()
    assert configuration["Aliases"] == ["chat.example.com"]
    assert configuration["ViewerCertificate"]["AcmCertificateArn"] == DOMAIN["CertificateArn"]
    assert configuration["ViewerCertificate"]["MinimumProtocolVersion"] == "TLSv1.2_2021"
    behaviours = [configuration["DefaultCacheBehavior"], *configuration["CacheBehaviors"]]
    assert {each["ViewerProtocolPolicy"] for each in behaviours} == {"https-only", "redirect-to-https"}
    assert "WebACLId" not in configuration


def test_a_firewall_makes_the_domain_the_only_way_in() -> None:
    stack = Stack(**DOMAIN, WebAclArn=WEB_ACL)
    assert distribution(WebAclArn=WEB_ACL)["WebACLId"] == WEB_ACL
    for name in stack.of_type("AWS::Lambda::Function"):
        assert stack.variables(name)["DOMAIN_REQUIRED"] == "true"
        assert len(stack.variables(name)["ORIGIN_SECRETS"].split()) == 2
    assert Stack(**DOMAIN).variables("UsersMeFunction")["DOMAIN_REQUIRED"] == "false"


def test_a_rotation_names_the_version_to_everybody_in_one_deployment() -> None:
    stack = Stack(**DOMAIN, OriginSecretVersion="v-2")
    wanted = "{{resolve:secretsmanager:OriginSecret-id:SecretString:current::v-2}}"
    configuration = stack.resources["Distribution"]["Properties"]["DistributionConfig"]
    assert {each["OriginCustomHeaders"][0]["HeaderValue"] for each in configuration["Origins"]} == {wanted}
    assert stack.variables("TasksStreamFunction")["ORIGIN_SECRETS"].split() == [
        wanted,
        wanted.replace("current", "previous"),
    ]


def test_the_first_previous_secret_is_none_that_anybody_could_send(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Stack(**DOMAIN).resources["OriginSecret"]["Properties"]["GenerateSecretString"]
    assert made["GenerateStringKey"] == "current"
    assert made["PasswordLength"] >= settings._SECRET_CHARACTERS
    assert len(json.loads(made["SecretStringTemplate"])["previous"]) < settings._SECRET_CHARACTERS


@pytest.mark.parametrize(
    ("parameters", "base"),
    [
        (DOMAIN, "https://chat.example.com"),
        ({**DOMAIN, "StreamBaseUrl": "https://stream.example.com"}, "https://stream.example.com"),
        ({"StreamBaseUrl": "https://stream.example.com"}, "https://stream.example.com"),
    ],
)
def test_streams_are_handed_out_on_the_domain_or_where_the_operator_says(parameters: dict[str, str], base: str) -> None:
    stack = Stack(**parameters)
    told = {stack.variables(name)["STREAM_BASE_URL"] for name in stack.of_type("AWS::Lambda::Function")}
    assert told == {base}


def test_wechat_leads_back_to_the_domain_unless_the_operator_says_otherwise() -> None:
    def callback(**parameters: str) -> str:
        return Stack(**parameters).variables("SessionWechatAuthorizeFunction")["WECHAT_CALLBACK_URL"]

    assert callback() == ""
    assert callback(**DOMAIN) == "https://chat.example.com/api/v1/session/wechat/callback"
    assert callback(**DOMAIN, WechatCallbackUrl="https://old.example.com/back") == "https://old.example.com/back"


@pytest.mark.parametrize(
    ("parameter", "good", "bad"),
    [
        ("DomainName", ["", "chat.example.com", "a.b-c.co"], ["https://a.com", "a", "A.com", "a.com/", "-a.com"]),
        ("StreamBaseUrl", ["", "https://a.com", "http://127.0.0.1:8000"], ["https://a.com/", "a.com"]),
        ("OriginSecretVersion", ["", "EXAMPLE1-90ab-cdef"], ["}}", "a:b"]),
        ("WebAclArn", ["", WEB_ACL], ["arn:aws:wafv2:ap-east-1:123456789012:regional/webacl/w/1"]),
    ],
)
def test_a_parameter_refuses_what_would_fail_later(parameter: str, good: list[str], bad: list[str]) -> None:
    pattern = Template().document["Parameters"][parameter]["AllowedPattern"]
    assert all(re.fullmatch(pattern, value) for value in good)
    assert not any(re.fullmatch(pattern, value) for value in bad)


def test_a_domain_needs_a_certificate_and_a_firewall_a_domain() -> None:
    rules = Template().document["Rules"]
    described = {name: rule["Assertions"][0]["AssertDescription"] for name, rule in rules.items()}
    assert (
        described.items()
        >= {
            "Domain": "A DomainName needs its CertificateArn",
            "Firewall": "A WebAclArn needs a DomainName",
        }.items()
    )


def test_the_address_of_the_previous_release_stays_and_the_new_one_is_the_aliases() -> None:
    stack = Stack()
    urls = stack.of_type("AWS::Lambda::Url")
    assert "Qualifier" not in urls["TasksStreamFunctionUrl"], "as it was: another target would be another address"
    assert urls["TasksStreamLiveUrl"]["Qualifier"] == "live"
    for url in urls.values():
        assert (url["AuthType"], url["InvokeMode"]) == ("NONE", "RESPONSE_STREAM")
    public = [p for p in stack.of_type("AWS::Lambda::Permission").values() if p["Principal"] == "*"]
    allowed = {(p["FunctionName"], p["Action"]): p for p in public}
    targets = ("TasksStreamFunction-id", "TasksStreamFunctionAliaslive-id", "V1ServeFunction-id")
    assert allowed.keys() == {
        (target, action) for target in targets for action in ("lambda:InvokeFunctionUrl", "lambda:InvokeFunction")
    }
    for (_, action), permission in allowed.items():
        if action == "lambda:InvokeFunction":
            assert permission["InvokedViaFunctionUrl"] is True, "through an address, and in no other way"
        else:
            assert permission["FunctionUrlAuthType"] == "NONE"
