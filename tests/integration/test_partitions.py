"""template.yaml in AWS's partitions and regions, as CloudFormation has it there."""

import json
from typing import Any

import pytest

from local.stack.template import PATH
from tests.transformed import DanglingError, Stack, transform

DOMAIN = {"DomainName": "chat.example.com", "CertificateArn": "arn:aws:acm:us-east-1:123456789012:certificate/c"}
REGIONS = ["us-east-1", "ap-southeast-1", "ap-east-1"]
CHINA = ["cn-north-1", "cn-northwest-1"]


def differing(**parameters: str) -> Any:
    return pytest.param(
        parameters, id=" ".join(f"{name}={value}" for name, value in parameters.items())[:60] or "plain"
    )


@pytest.mark.parametrize("region", [*REGIONS, *CHINA])
@pytest.mark.parametrize(
    "parameters",
    [
        differing(),
        differing(**DOMAIN),
        differing(**DOMAIN, WebAclArn="arn:aws:wafv2:us-east-1:123456789012:global/webacl/w/1"),
        differing(LambdaUrl="false"),
        differing(LambdaUrl="false", **DOMAIN),
        differing(StreamBaseUrl="https://stream.example.com", **DOMAIN),
        differing(
            Metrics="false", Dashboard="false", DetailedAlarms="false", StreamConcurrency="5", Architecture="arm64"
        ),
        differing(
            AccessLogs="true", AlarmTopic="arn:aws:sns:us-east-1:123456789012:t", DashscopeBaseUrl="https://d.test"
        ),
    ],
)
def test_nothing_names_what_is_not_there(region: str, parameters: dict[str, str]) -> None:
    assert Stack(region, **parameters).resources


def test_a_dangling_reference_would_be_found() -> None:
    """The promise above is worth what its evaluator sees."""
    stack = Stack("cn-north-1")
    with pytest.raises(DanglingError):
        stack._resolve({"Fn::Sub": "${TasksStreamLiveUrl.FunctionUrl}"})
    with pytest.raises(DanglingError):
        stack._resolve([{"Ref": "TasksStreamFunction"}])


@pytest.mark.parametrize("parameters", [differing(), differing(**DOMAIN)])
@pytest.mark.parametrize("region", CHINA)
def test_aws_china_has_its_own_partition_and_what_it_lacks_is_left_out(region: str, parameters: dict[str, str]) -> None:
    stack = Stack(region, **parameters)
    kinds = {resource["Type"] for resource in stack.resources.values()}
    assert "AWS::Lambda::Url" not in kinds
    assert not [kind for kind in kinds if kind.startswith("AWS::CloudFront::")], "it takes no certificate of ACM there"
    text = json.dumps({**stack.resources, **stack.outputs})
    assert "arn:aws:" not in text.replace(DOMAIN["CertificateArn"], "")
    assert "lambda-url" not in text
    assert {f["TracingConfig"]["Mode"] for f in stack.of_type("AWS::Lambda::Function").values()} == {"PassThrough"}
    assert "TasksStreamFunction" not in stack.resources, "nothing could call it"


def test_the_source_names_no_partition() -> None:
    assert "arn:aws:" not in PATH.read_text(encoding="utf-8")
    assert "arn:aws:" not in json.dumps(transform("cn-north-1")["Resources"]), "SAM's own"


@pytest.mark.parametrize("region", REGIONS)
def test_traces_are_the_parameters_where_there_are_any(region: str) -> None:
    functions = Stack(region).of_type("AWS::Lambda::Function").items()
    untraced = {name for name, function in functions if function["TracingConfig"]["Mode"] != "Active"}
    assert untraced == {"OperationsKeepWarmFunction"}, "traces of pings would cost more than the pings"


@pytest.mark.parametrize(
    "name", ["TasksCreateFunction", "TasksRegenerateFunction", "TasksGetFunction", "TasksStopFunction"]
)
def test_where_nothing_streams_the_polling_door_is_handed_out(name: str) -> None:
    for stack in (Stack("cn-north-1"), Stack("me-central-1", LambdaUrl="false")):
        assert (stack.variables(name)["STREAM_BASE_URL"], stack.variables(name)["STREAM_PATH"]) == ("", "poll")
    domain = Stack("cn-north-1", **DOMAIN).variables(name)
    assert (domain["STREAM_BASE_URL"], domain["STREAM_PATH"]) == ("https://chat.example.com", "poll")
    streaming = Stack("us-east-1").variables(name)
    assert streaming["STREAM_BASE_URL"].startswith("https://tasksstreamliveurl.")
    assert streaming["STREAM_PATH"] == "stream"


def test_clients_of_openais_api_are_sent_where_it_answers() -> None:
    def told(region: str, **parameters: str) -> str:
        return Stack(region, **parameters).variables("ConfigGetFunction")["V1_BASE_URL"]

    assert told("us-east-1").startswith("https://v1url.")
    assert told("us-east-1", **DOMAIN) == "https://chat.example.com"
    assert told("us-east-1", **DOMAIN, WebAclArn="arn:aws:wafv2:us-east-1:123456789012:global/webacl/w/1").endswith(
        ".com"
    )
    assert told("us-east-1", StreamBaseUrl="https://stream.example.com").startswith("https://v1url."), (
        "of streams alone"
    )
    for region, parameters in (("us-east-1", {"LambdaUrl": "false"}), ("cn-north-1", {}), ("cn-north-1", DOMAIN)):
        assert told(region, **parameters) == ""


def test_a_domain_in_aws_china_is_the_http_apis_own() -> None:
    stack = Stack("cn-north-1", **DOMAIN)
    [domain] = stack.of_type("AWS::ApiGatewayV2::DomainName").values()
    assert domain["DomainName"] == "chat.example.com"
    assert domain["DomainNameConfigurations"][0]["CertificateArn"] == DOMAIN["CertificateArn"]
    [mapping] = stack.of_type("AWS::ApiGatewayV2::ApiMapping").values()
    assert (mapping["ApiId"], mapping["Stage"]) == ("Api-id", "$default")
    assert stack.variables("UsersMeFunction")["ORIGIN_SECRETS"] == "", "the address is the one that the API sees"


@pytest.mark.parametrize(("region", "account"), [("us-east-1", "753240598075"), ("ap-east-1", "753240598075")])
def test_the_web_adapters_layer_is_the_regions(region: str, account: str) -> None:
    layers = Stack(region).resources["TasksStreamFunction"]["Properties"]["Layers"]
    assert f"arn:aws:lambda:{region}:{account}:layer:LambdaAdapterLayerX86:27" in layers
