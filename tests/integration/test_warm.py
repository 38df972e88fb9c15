"""template.yaml: which functions are kept warm, what publishes their versions, and how much room the stack has left."""

import json
import re
from typing import Any

import boto3
import pytest
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from local.stack.template import Template
from tests.transformed import Stack, transform

MOST_RESOURCES = 470
"""CloudFormation takes 500 in a stack."""
POLICY_CHARACTERS = 6144
"""Of a managed policy, without white space. A role's own policies have 10,240 together."""
INPUT_CHARACTERS = 8192
"""Of a rule's input."""
LONGEST_NAME, LONGEST_REGION = 64, "ap-southeast-99"
TEMPLATE = Template()
REQUESTED = {f.name for f in TEMPLATE.functions.values() if any(event.type == "HttpApi" for event in f.events)}
WAITED_FOR = {
    *("UsersCreateFunction", "UsersMeFunction", "SessionCreateFunction", "SessionRefreshFunction"),
    *("SessionWechatTokenFunction", "SessionWechatRefreshFunction", "PresetsListFunction", "ChatsCreateFunction"),
    *("ChatsListFunction", "ChatsGetFunction", "ChatsAppendFunction", "TasksCreateFunction", "TasksRegenerateFunction"),
    *("TasksGetFunction", "TasksStopFunction", "TasksStreamFunction", "TasksStreamPollFunction"),
}
"""The calls between opening an app and reading an answer."""


def properties(name: str) -> dict[str, Any]:
    found: dict[str, Any] = TEMPLATE.document["Resources"][name]["Properties"]
    return found


def versions(region: str = "us-east-1", *changes: tuple[str, str]) -> set[str]:
    """The logical ids of the versions that a deployment publishes: a new id is a new version."""
    return {name for name, r in transform(region, changes)["Resources"].items() if r["Type"] == "AWS::Lambda::Version"}


def test_the_stack_has_room_for_more_functions() -> None:
    assert len(transform("us-east-1")["Resources"]) <= MOST_RESOURCES


# Versions


def test_what_people_wait_for_has_versions_under_one_alias() -> None:
    aliased = {name for name in TEMPLATE.functions if "AutoPublishAlias" in properties(name)}
    assert aliased == WAITED_FOR
    for name in aliased:
        assert properties(name)["AutoPublishAlias"] == "live"
        assert properties(name)["AutoPublishAliasAllProperties"] is True
        assert properties(name)["VersionDeletionPolicy"] == "Delete", "each would keep its code, and its snapshot"


def test_requests_reach_the_alias() -> None:
    paths = json.dumps(transform("us-east-1")["Resources"]["Api"])
    for name in WAITED_FOR - {"TasksStreamFunction"}:
        assert f"${{{name}Aliaslive}}" in paths
        assert f"${{{name}.Arn}}" not in paths


def test_a_change_of_a_layer_publishes_every_version() -> None:
    """SAM compares a layer's content only where the layer asks for it."""
    changed = versions("us-east-1", ("Description: What every function imports", "Description: changed"))
    assert len(changed) == len(WAITED_FOR)
    assert not changed & versions()


def test_a_change_of_the_deployments_parameters_publishes_every_version() -> None:
    """SAM compares the references to parameters, not their values, so `make deploy` writes a stamp that it does compare."""
    assert not versions("us-east-1", ('DEPLOYED_WITH: ""', 'DEPLOYED_WITH: "0123456789abcdef"')) & versions()


def test_sam_alone_would_miss_a_changed_parameter() -> None:
    """If this fails, SAM has learnt it, and the stamp can go."""

    def published(**parameters: str) -> set[str]:
        document = json.loads(json.dumps(Template().document))
        document["Globals"]["Function"]["CodeUri"] = "s3://bucket/code"
        for resource in document["Resources"].values():
            if resource["Type"] == "AWS::Serverless::LayerVersion":
                resource["Properties"]["ContentUri"] = "s3://bucket/layer"
        translator = Translator({}, Parser(), None, boto3.Session(region_name="us-east-1"))
        resources = translator.translate(document, parameters)["Resources"]
        return {name for name, r in resources.items() if r["Type"] == "AWS::Lambda::Version"}

    assert published(LeaseSeconds="45") == published(LeaseSeconds="90")


def test_snapshots_and_waiting_environments_are_the_operators_choice() -> None:
    plain = Stack()
    assert not [f for f in plain.of_type("AWS::Lambda::Function").values() if "SnapStart" in f]
    assert not [a for a in plain.of_type("AWS::Lambda::Alias").values() if "ProvisionedConcurrencyConfig" in a]
    snapped = {
        name
        for name, f in Stack(SnapStart="true").of_type("AWS::Lambda::Function").items()
        if f.get("SnapStart") == {"ApplyOn": "PublishedVersions"}
    }
    assert snapped == WAITED_FOR - {"TasksStreamFunction"}, "nobody has tried the web adapter under it"
    provided = {
        name: alias["ProvisionedConcurrencyConfig"]["ProvisionedConcurrentExecutions"]
        for name, alias in Stack(ProvisionedConcurrency="2").of_type("AWS::Lambda::Alias").items()
        if "ProvisionedConcurrencyConfig" in alias
    }
    assert provided == dict.fromkeys(("TasksCreateFunctionAliaslive", "TasksStreamFunctionAliaslive"), "2")


def test_snapshots_and_waiting_environments_exclude_each_other() -> None:
    rule = TEMPLATE.document["Rules"]["Starts"]
    assert rule["RuleCondition"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "ProvisionedConcurrency"}, "0"]}]}
    assert rule["Assertions"][0]["Assert"] == {"Fn::Equals": [{"Ref": "SnapStart"}, "false"]}


def test_executors_have_the_memory_of_what_mostly_waits() -> None:
    executors = {"TasksStreamFunction", "TasksOnQueuedFunction", "V1ServeFunction"}
    assert {name for name, f in TEMPLATE.functions.items() if f.memory == 512} == executors


def test_a_lease_outlives_a_short_outage_of_dynamodb() -> None:
    parameter = TEMPLATE.document["Parameters"]["LeaseSeconds"]
    assert (parameter["Default"], parameter["MinValue"]) == (45, 15)


# Pings


def keep_warm(stack: Stack) -> dict[str, Any]:
    [target] = stack.resources["KeepWarmRule"]["Properties"]["Targets"]
    event: dict[str, Any] = json.loads(target["Input"])
    return event


def pinged(event: dict[str, Any]) -> dict[str, bool]:
    """The functions that are pinged, and whether by their alias."""
    names = [*event["functions"], *event["streaming"]]
    assert len(names) == len(set(names))
    return {name.partition(":")[0].removesuffix("-id"): name.endswith(":live") for name in names}


def test_everything_that_answers_people_is_pinged_where_its_requests_go() -> None:
    found = pinged(keep_warm(Stack()))
    expected = REQUESTED | {"TasksStreamFunction", "TasksOnQueuedFunction", "V1ServeFunction"}
    assert found.keys() == expected, (
        "Add to KeepWarmRule and to a KeepWarmPolicy of template.yaml, or remove there: "
        f"{', '.join(sorted(expected ^ found.keys()))}"
    )
    assert {name for name, by_alias in found.items() if by_alias} == WAITED_FOR


def test_a_small_account_is_known_to_the_function() -> None:
    event = keep_warm(Stack(AccountConcurrency="10"))
    assert event["concurrency"] == 10
    assert event["streaming"] == ["TasksStreamFunction-id:live", "V1ServeFunction-id"]
    assert keep_warm(Stack())["concurrency"] == 0, "an unknown one counts as small"


def test_where_nothing_streams_nothing_of_it_is_pinged() -> None:
    assert keep_warm(Stack("cn-north-1"))["streaming"] == []


def test_without_it_there_is_nothing_of_it() -> None:
    assert not [name for name in Stack(KeepWarm="false").resources if "KeepWarm" in name]


def test_it_may_call_exactly_what_it_pings() -> None:
    for stack in (Stack(), Stack("cn-north-1")):
        allowed: list[str] = []
        for name, policy in stack.of_type("AWS::IAM::ManagedPolicy").items():
            [statement] = policy["PolicyDocument"]["Statement"]
            assert (statement["Effect"], statement["Action"]) == ("Allow", "lambda:InvokeFunction")
            allowed += statement["Resource"]
            assert name in str(TEMPLATE.document["Resources"]["OperationsKeepWarmFunction"]["Properties"]["Policies"])
        event = keep_warm(stack)
        names = [name.replace("-id", ".Arn") for name in (*event["functions"], *event["streaming"])]
        assert sorted(allowed) == sorted(names), (
            "Only KeepWarmRule or only a KeepWarmPolicy of template.yaml names: "
            f"{', '.join(sorted(set(allowed) ^ set(names)))}"
        )


def test_its_policies_and_its_input_fit_with_the_longest_names() -> None:
    stack = Stack()
    for policy in stack.of_type("AWS::IAM::ManagedPolicy").values():
        text = json.dumps(policy["PolicyDocument"], separators=(",", ":"))
        arn = f"arn:aws-us-gov:lambda:{LONGEST_REGION}:123456789012:function:{'n' * LONGEST_NAME}"
        assert len(re.sub(r"\w+Function\.Arn", arn, text)) <= POLICY_CHARACTERS
    [target] = stack.resources["KeepWarmRule"]["Properties"]["Targets"]
    assert len(re.sub(r"\w+Function-id", "n" * LONGEST_NAME, target["Input"])) <= INPUT_CHARACTERS


def test_the_rule_calls_one_function_often_enough_and_never_twice_at_once() -> None:
    stack = Stack()
    rule = stack.resources["KeepWarmRule"]["Properties"]
    assert rule["ScheduleExpression"] == "rate(5 minutes)"
    assert rule["Targets"][0]["Arn"] == "OperationsKeepWarmFunction.Arn"
    assert rule["Targets"][0]["RetryPolicy"]["MaximumRetryAttempts"] == 0
    assert stack.resources["OperationsKeepWarmFunction"]["Properties"]["Timeout"] < 300
    permission = stack.resources["KeepWarmPermission"]["Properties"]
    assert permission["SourceArn"] == "KeepWarmRule.Arn"


@pytest.mark.parametrize("parameters", [{}, {"DomainName": "chat.example.com", "CertificateArn": "arn:c"}])
def test_a_functions_environment_fits_with_a_domain_too(parameters: dict[str, str]) -> None:
    """Lambda takes 4 KB. Names are as long as those of a stack whose own name has 40 characters, and secrets are filled in."""
    for name, function in Stack(**parameters).of_type("AWS::Lambda::Function").items():
        values = function["Environment"]["Variables"].items()
        text = "".join(f"{key}{value}" for key, value in values)
        text = re.sub(r"\{\{resolve:[^}]+\}\}", "s" * 48, text)
        text = re.sub(r"\w+Queue-id", f"https://sqs.{LONGEST_REGION}.amazonaws.com/123456789012/{'n' * 80}", text)
        text = re.sub(r"\w+Secret-id", f"arn:aws:secretsmanager:{LONGEST_REGION}:123456789012:secret:{'n' * 80}", text)
        text = re.sub(r"\w+(Table|Bucket)-id", "n" * 64, text)
        assert len(text) < 4096 - 500, name
