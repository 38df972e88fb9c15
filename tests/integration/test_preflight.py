"""The checks of `make deploy`, `make test-alarm` and `make rollback`, in an embedded AWS that enforces IAM."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError

from local.release import alarms, deploy, policy, rollback
from local.release.findings import Level
from local.release.preflight import Preflight
from local.release.stacks import Where
from local.release.stages import OperationError, Stage
from local.stack.processes import listener
from local.stack.template import ROOT
from tests.e2e.cloud import reached
from tests.waiting import PATIENCE_SECONDS, until

PAGE: dict[str, Any] = json.loads((ROOT / "docs" / "deployer-policy.json").read_text())
REGION = "us-east-1"
Sign = Callable[[str, list[dict[str, Any]]], None]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An account of a company that is new at AWS: Lambda runs ten at one time."""
    folder = tmp_path_factory.mktemp("aws")
    with listener(0) as sock:
        port = sock.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | {
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "AUTH": "true",
        "STATE_DIR": str(folder),
        "S3_DATA_DIR": str(folder / "s3"),
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "LOG_LEVEL": "ERROR",
        "LAMBDA_ACCOUNT_CONCURRENCY": "10",
        "DOCKER_HOST": "unix:///nonexistent",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.aws"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    try:
        until(lambda: reached(f"http://127.0.0.1:{port}/_ministack/health"), "ministack")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


@pytest.fixture(autouse=True)
def account(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything here goes to that account, as somebody who may do everything, in a folder with the project's samconfig.toml."""
    for name, value in {
        "ENDPOINT_URL": endpoint,
        "DEFAULT_REGION": REGION,
        "ACCESS_KEY_ID": "test",
        "SECRET_ACCESS_KEY": "test",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    (tmp_path / "samconfig.toml").write_text((ROOT / "samconfig.toml").read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STAGE", raising=False)


def client(service: str) -> Any:
    return botocore.session.get_session().create_client(service)


@pytest.fixture
def sign_in(monkeypatch: pytest.MonkeyPatch) -> Sign:
    """Makes a user with these policies, and signs in as that user."""

    def sign(name: str, policies: list[dict[str, Any]]) -> None:
        iam = client("iam")
        iam.create_user(UserName=name)
        for number, document in enumerate(policies):
            iam.put_user_policy(
                UserName=name, PolicyName=f"part{number}", PolicyDocument=json.dumps(document, separators=(",", ":"))
            )
        key = iam.create_access_key(UserName=name)["AccessKey"]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])

    return sign


def found(*arguments: str, **overrides: str) -> dict[Level, str]:
    """What is found, a text for each level."""
    findings = Preflight(Stage.read(), list(arguments)).run(overrides).findings
    return {level: "\n".join(each.text for each in findings if each.level is level) for level in Level}


def test_with_the_documented_policy_nothing_is_missing_and_the_small_account_is_told(sign_in: Sign) -> None:
    sign_in("deployer", policy.parts(PAGE))
    said = found()
    assert "You are arn:aws:iam::000000000000:user/deployer in the account 000000000000" in said[Level.FINE]
    assert "Lambda URLs and response streaming are there" in said[Level.FINE]
    assert "There is no stack aideer in us-east-1 yet" in said[Level.FINE]
    assert "You have the permissions of docs/deployer-policy.json" in said[Level.FINE]
    assert "at most 10 requests and streams" in said[Level.WARNING]
    assert said[Level.REFUSAL] == ""


def test_missing_permissions_are_named(sign_in: Sign) -> None:
    less = [each for each in PAGE["Statement"] if "dynamodb:CreateTable" not in each["Action"]]
    sign_in("without-tables", policy.parts({**PAGE, "Statement": less}))
    said = found()
    assert "You seem to lack dynamodb:" in said[Level.WARNING]
    assert "docs/deployer-policy.json has all" in said[Level.WARNING]
    assert said[Level.REFUSAL] == "", "a simulation is no proof"


def test_a_check_that_the_operator_may_not_make_is_left_out_and_the_others_go_on(sign_in: Sign) -> None:
    nothing = {"Effect": "Deny", "Action": "*", "Resource": "*"}
    sign_in("guest", [{"Version": "2012-10-17", "Statement": [nothing]}])
    said = found()
    assert "you lack cloudformation:DescribeStacks" in said[Level.WARNING]
    assert "you lack iam:SimulatePrincipalPolicy" in said[Level.WARNING]
    assert "user/guest" in said[Level.FINE]


def test_all_findings_are_told_at_once_and_a_refusal_stops(capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy.main(["check", "--region", "il-central-1", "--parameter-overrides", "StreamConcurrency=5"]) == 1
    shown = capsys.readouterr()
    assert "warning:  il-central-1 had no Lambda URLs in 2025" in shown.out
    assert "warning:  You use the account's root user" in shown.out
    assert shown.out.splitlines()[-1].startswith("refused:  StreamConcurrency is 5")
    assert shown.err == "Nothing was deployed.\n"


def test_a_small_account_is_a_warning_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy.main(["check", "--no-confirm-changeset"]) == 0
    assert capsys.readouterr().err == ""


def test_unknown_credentials_are_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAWRONGWRONG000000")
    assert "AWS does not take these credentials" in found()[Level.REFUSAL]
    assert "region that an account must opt into" in found("--region", "ap-east-1")[Level.REFUSAL]


def test_an_unreachable_aws_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "AWS cannot be reached in us-east-1" in found()[Level.REFUSAL]


def test_a_region_that_nobody_knows_is_told() -> None:
    assert "Is it spelled right?" in found("--region", "eu-west-9")[Level.WARNING]


class Stacks:
    """CloudFormation with one stack in a state."""

    def __init__(self, status: str) -> None:
        self.status = status

    def describe_stacks(self, **_: object) -> dict[str, Any]:
        return {"Stacks": [{"StackStatus": self.status}]}

    def describe_stack_resource(self, **_: object) -> None:
        raise ClientError({"Error": {"Code": "ValidationError", "Message": "none"}}, "DescribeStackResource")

    def describe_stack_events(self, **_: object) -> dict[str, Any]:
        def event(name: str, status: str, reason: str = "") -> dict[str, str]:
            return {"LogicalResourceId": name, "ResourceStatus": status, "ResourceStatusReason": reason}

        return {
            "StackEvents": [
                event("aideer", self.status),
                event("UsersTable", "CREATE_FAILED", "Resource creation cancelled"),
                event("ChatsTable", "CREATE_FAILED", "Table already exists"),
                event("aideer", "CREATE_IN_PROGRESS"),
                event("OldTable", "UPDATE_FAILED", "another time"),
            ]
        }


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        ("ROLLBACK_COMPLETE", "aws cloudformation delete-stack --stack-name aideer --region us-east-1"),
        ("ROLLBACK_FAILED", "delete-stack"),
        ("DELETE_FAILED", "delete-stack"),
        ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback --stack-name aideer"),
        ("UPDATE_IN_PROGRESS", "Wait until they are done"),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "Wait until they are done"),
    ],
)
def test_a_stack_that_cannot_be_changed_is_refused_with_its_cause(
    monkeypatch: pytest.MonkeyPatch, status: str, advice: str
) -> None:
    real = Preflight.client
    monkeypatch.setattr(
        Preflight, "client", lambda self, name: Stacks(status) if name == "cloudformation" else real(self, name)
    )
    said = found()[Level.REFUSAL]
    assert f"aideer is {status}" in said
    assert advice in said
    assert ("The cause was ChatsTable: Table already exists" in said) == (not status.endswith("_IN_PROGRESS"))


@pytest.mark.parametrize(
    "status", ["CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "REVIEW_IN_PROGRESS"]
)
def test_a_stack_that_can_be_changed_is_not_refused(monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    real = Preflight.client
    monkeypatch.setattr(
        Preflight, "client", lambda self, name: Stacks(status) if name == "cloudformation" else real(self, name)
    )
    assert found()[Level.REFUSAL] == ""


def test_an_account_without_room_for_the_roles_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Iam:
        def get_account_summary(self) -> dict[str, Any]:
            return {"SummaryMap": {"Roles": 990, "RolesQuota": 1000}}

    real = Preflight.client
    monkeypatch.setattr(Preflight, "client", lambda self, name: Iam() if name == "iam" else real(self, name))
    assert "The account has 990 of at most 1000" in found()[Level.REFUSAL]


TABLE: dict[str, Any] = {
    "Type": "AWS::DynamoDB::Table",
    "Properties": {
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "DeletionProtectionEnabled": "false",
    },
}
ALARM: dict[str, Any] = {
    "Type": "AWS::CloudWatch::Alarm",
    "Properties": {
        "AlarmDescription": "first",
        "Namespace": "n",
        "MetricName": "m",
        "Period": 60,
        "Statistic": "Sum",
        "EvaluationPeriods": 1,
        "Threshold": 1,
        "ComparisonOperator": "GreaterThanThreshold",
    },
}


def template(description: str, **resources: Any) -> str:
    alarm = {**ALARM, "Properties": {**ALARM["Properties"], "AlarmDescription": description}}
    parameters = {"Kept": {"Type": "String", "Default": "default"}}
    output = {"Kept": {"Value": {"Ref": "Kept"}}}
    everything = {"UsersTable": TABLE, "ErrorsAlarm": alarm, **resources}
    return json.dumps({"Parameters": parameters, "Resources": everything, "Outputs": output})


@pytest.fixture(scope="module")
def bucket(endpoint: str) -> str:
    """The bucket of the SAM CLI, which its own stack names."""
    session = botocore.session.get_session()
    given: dict[str, str] = {
        "endpoint_url": endpoint,
        "region_name": REGION,
        "aws_access_key_id": "test",
        "aws_secret_access_key": "test",
    }
    cloudformation: Any = session.create_client("cloudformation", **given)
    body = {
        "Resources": {"SamCliSourceBucket": {"Type": "AWS::S3::Bucket"}},
        "Outputs": {"SourceBucket": {"Value": {"Ref": "SamCliSourceBucket"}}},
    }
    name = rollback.SAM_STACK
    cloudformation.create_stack(StackName=name, TemplateBody=json.dumps(body))
    cloudformation.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 0.05})
    [output] = cloudformation.describe_stacks(StackName=name)["Stacks"][0]["Outputs"]
    return str(output["OutputValue"])


class Released:
    """A stack that is deployed as the SAM CLI does it: each template goes into the bucket, under its checksum."""

    def __init__(self, name: str, bucket: str) -> None:
        self.where, self._bucket, self._count = Where(name, REGION), bucket, 0

    def deploy(self, body: str) -> str:
        cloudformation = client("cloudformation")
        key = f"{self.where.stack}/{self._count:010}{0:022}.template"
        self._count += 1
        client("s3").put_object(Bucket=self._bucket, Key=key, Body=body.encode())
        make = cloudformation.create_stack if self._count == 1 else cloudformation.update_stack
        given = [{"ParameterKey": "Kept", "ParameterValue": "the operator's"}]
        make(StackName=self.where.stack, TemplateBody=body, Parameters=given)
        waiter = cloudformation.get_waiter(f"stack_{'create' if self._count == 1 else 'update'}_complete")
        waiter.wait(StackName=self.where.stack, WaiterConfig={"Delay": 0.05})
        return key

    def go_back(self, to: str | None = None) -> None:
        rollback.go_back(self.where, {"s3_prefix": self.where.stack}, to, sure=True)

    @property
    def description(self) -> str:
        name = self.where.resource("AWS::CloudWatch::Alarm", "ErrorsAlarm")
        return str(client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"][0]["AlarmDescription"])


@pytest.fixture
def ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Releases in the order of their keys: the embedded S3 knows times of one second, and these all came within one."""
    real = rollback.releases
    for delays in (rollback.UPDATED, rollback.CHANGE_SET):
        monkeypatch.setitem(delays, "Delay", 0)
    by_key = {"key": lambda release: release.key, "reverse": True}
    monkeypatch.setattr(rollback, "releases", lambda *given: sorted(real(*given), **by_key))


@pytest.mark.usefixtures("ordered")
def test_the_release_before_runs_again_with_the_stacks_own_parameters(
    bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = Released("aideer-back", bucket)
    stack.deploy(template("first"))
    stack.deploy(template("second"))
    stack.deploy(template("third", More=ALARM))
    stack.go_back()
    assert stack.description == "second"
    shown = capsys.readouterr().out
    assert "Remove    1 AWS::CloudWatch::Alarm: More" in shown
    [described] = client("cloudformation").describe_stacks(StackName="aideer-back")["Stacks"]
    assert described["Outputs"][0]["OutputValue"] == "the operator's"
    stack.go_back()
    assert stack.description == "first"
    with pytest.raises(OperationError, match="There is no earlier release"):
        stack.go_back()


@pytest.mark.usefixtures("ordered")
def test_going_back_never_deletes_data(bucket: str) -> None:
    stack = Released("aideer-data", bucket)
    stack.deploy(template("first"))
    stack.deploy(template("second", ChatsTable=TABLE, JobsQueue={"Type": "AWS::SQS::Queue"}))
    with pytest.raises(OperationError, match="would delete or replace ChatsTable, JobsQueue, with the data"):
        stack.go_back()
    assert stack.description == "second"
    assert "ChatsTable" in stack.where.resources("AWS::DynamoDB::Table")
    assert client("cloudformation").list_change_sets(StackName="aideer-data")["Summaries"] == []


@pytest.mark.usefixtures("ordered")
def test_nothing_changes_without_a_yes(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Released("aideer-asked", bucket)
    stack.deploy(template("first"))
    stack.deploy(template("second"))
    monkeypatch.setattr("builtins.input", lambda _: "")
    with pytest.raises(OperationError, match="Nothing was changed"):
        rollback.go_back(stack.where, {"s3_prefix": "aideer-asked"}, None, sure=False)
    with pytest.raises(OperationError, match="not one of the releases"):
        stack.go_back(to="f")
    assert stack.description == "second"


def test_a_stack_that_is_not_there_has_no_release_to_go_back_to() -> None:
    with pytest.raises(OperationError, match="There is no deployed stack nowhere"):
        rollback.go_back(Where("nowhere", REGION), {}, None, sure=True)


def watched(name: str, **properties: Any) -> Where:
    alarm = {**ALARM, "Properties": {**ALARM["Properties"], **properties}}
    topic: dict[str, Any] = {"Type": "AWS::SNS::Topic", "Properties": {}}
    body = {"Resources": {"ErrorsAlarm": alarm, "AlarmMails": topic}}
    client("cloudformation").create_stack(StackName=name, TemplateBody=json.dumps(body))
    client("cloudformation").get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 0.05})
    return Where(name, REGION)


def state(where: Where) -> str:
    name = where.resource("AWS::CloudWatch::Alarm", "ErrorsAlarm")
    return str(client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"][0]["StateValue"])


def test_alarms_that_reach_nobody_say_how_they_would() -> None:
    where = watched("aideer-silent")
    with pytest.raises(OperationError, match="Add AlarmEmail=you"):
        alarms.send_test(where)
    assert state(where) != "ALARM"


def test_a_test_is_sent_only_if_somebody_receives_it(capsys: pytest.CaptureFixture[str]) -> None:
    where = watched("aideer-mails", AlarmActions=[{"Ref": "AlarmMails"}])
    with pytest.raises(OperationError, match="Nobody receives the alarms"):
        alarms.send_test(where)
    topic = where.resource("AWS::SNS::Topic", "AlarmMails")
    client("sns").subscribe(TopicArn=topic, Protocol="email", Endpoint="ops@example.com")
    alarms.send_test(where)
    assert "ops@example.com receives it" in capsys.readouterr().out
    assert state(where) == "ALARM"


def test_an_address_that_is_not_confirmed_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The embedded SNS confirms every address by itself, so this one is a fake."""

    class Sns:
        def get_paginator(self, _: str) -> "Sns":
            return self

        def paginate(self, **_: object) -> list[dict[str, Any]]:
            return [{"Subscriptions": [{"Endpoint": "ops@example.com", "SubscriptionArn": alarms.PENDING}]}]

    where = watched("aideer-pending", AlarmActions=[{"Ref": "AlarmMails"}])
    real = Where.client
    monkeypatch.setattr(Where, "client", lambda self, name: Sns() if name == "sns" else real(self, name))
    with pytest.raises(OperationError, match="Nothing was sent"):
        alarms.send_test(where)
    assert "Not confirmed yet: ops@example.com" in capsys.readouterr().out
    assert state(where) != "ALARM"
