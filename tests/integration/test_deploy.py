"""`make deploy`, `logs`, `admin` and `destroy`, on a small stack in the embedded CloudFormation that has what they look for."""

import io
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import botocore.client
import botocore.session
import pytest
from botocore.exceptions import ClientError

from local.release import deploy
from local.release.build import deployed_architecture
from local.release.concurrency import Concurrency
from local.release.preflight import Preflight
from local.release.stacks import Where
from local.stack.template import ROOT

pytestmark = pytest.mark.early

TEMPLATE: dict[str, Any] = {
    "Parameters": {"Protected": {"Type": "String", "Default": "true"}},
    "Resources": {
        "UsersTable": {
            "Type": "AWS::DynamoDB::Table",
            "Properties": {
                "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
                "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
                "DeletionProtectionEnabled": {"Ref": "Protected"},
            },
        },
        "AvatarsBucket": {
            "Type": "AWS::S3::Bucket",
            "DeletionPolicy": "Retain",
            "Properties": {"VersioningConfiguration": {"Status": "Enabled"}},
        },
        "LogGroup": {"Type": "AWS::Logs::LogGroup"},
    },
}


class Became(Exception):
    """This process is another now."""


def client(service: str) -> Any:
    return botocore.session.get_session().create_client(service)


@pytest.fixture
def where() -> Iterator[Where]:
    """A stack, protected as the real one is by default."""
    name, cloudformation = f"s{uuid4().hex[:8]}", client("cloudformation")
    cloudformation.create_stack(StackName=name, TemplateBody=json.dumps(TEMPLATE))
    cloudformation.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 0.05})
    yield Where(name, None)
    cloudformation.delete_stack(StackName=name)


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is typed, in this order; then the input ends."""
    answers: list[str] = []

    def read(_: str = "") -> str:
        if not answers:
            raise EOFError
        return answers.pop(0)

    monkeypatch.setattr("builtins.input", read)
    monkeypatch.setattr(deploy.getpass, "getpass", read)
    return answers


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands of the SAM CLI that this process would have become."""
    commands: list[list[str]] = []

    def become(path: Path, arguments: list[str]) -> None:
        assert path.exists()
        commands.append(arguments[1:])
        raise Became

    monkeypatch.setattr(deploy.os, "execv", become)
    return commands


def run(*arguments: str) -> int | None:
    try:
        return deploy.main(list(arguments))
    except Became:
        return None


def pictures(where: Where) -> str:
    bucket = where.resource("AWS::S3::Bucket", "AvatarsBucket")
    for body in (b"old", b"new"):
        client("s3").put_object(Bucket=bucket, Key="avatars/u/1.jpg", Body=body)
    client("s3").put_object(Bucket=bucket, Key="avatars/u/2.jpg", Body=b"x")
    client("s3").delete_object(Bucket=bucket, Key="avatars/u/2.jpg")
    return bucket


def is_there(where: Where) -> bool:
    try:
        status = client("cloudformation").describe_stacks(StackName=where.stack)["Stacks"][0]["StackStatus"]
    except ClientError:
        return False
    return status != "DELETE_COMPLETE"


def unprotect(where: Where) -> None:
    table = where.resource("AWS::DynamoDB::Table", "UsersTable")
    client("dynamodb").update_table(TableName=table, DeletionProtectionEnabled=False)


def test_a_protected_stack_is_not_destroyed_and_says_how_it_would_be(
    where: Where, typed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    bucket = pictures(where)
    typed.append(where.stack)
    assert run("destroy", "--stack", where.stack) == 1
    said = capsys.readouterr().err
    assert "UsersTable refuse to be deleted. Nothing was deleted." in said
    assert "DeletionProtection=false" in said
    assert typed, "it did not even ask"
    assert is_there(where)
    assert len(client("s3").list_object_versions(Bucket=bucket)["Versions"]) == 3


@pytest.mark.parametrize("answer", [None, "", "yes", "aideer "])
def test_without_the_stacks_name_nothing_is_destroyed(where: Where, typed: list[str], answer: str | None) -> None:
    bucket = pictures(where)
    unprotect(where)
    if answer is not None:
        typed.append(answer)
    assert run("destroy", "--stack", where.stack) == 1
    assert is_there(where)
    assert client("s3").list_objects_v2(Bucket=bucket)["KeyCount"] == 1


def test_a_stack_is_destroyed_with_all_its_pictures(
    where: Where, typed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    bucket, table = pictures(where), where.resource("AWS::DynamoDB::Table", "UsersTable")
    unprotect(where)
    typed.append(where.stack)
    assert run("destroy", "--stack", where.stack) == 0, capsys.readouterr().err
    assert f"{where.stack} is gone" in capsys.readouterr().out
    assert not is_there(where)
    with pytest.raises(ClientError):
        client("s3").head_bucket(Bucket=bucket)
    with pytest.raises(ClientError):
        client("dynamodb").describe_table(TableName=table)


def test_a_stack_that_refuses_its_deletion_keeps_its_pictures(
    where: Where, typed: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with CloudFormation's termination protection, or without the permission."""
    bucket = pictures(where)
    unprotect(where)
    typed.append(where.stack)
    call = botocore.client.BaseClient._make_api_call

    def refuse(self: Any, operation: str, arguments: Any) -> Any:
        if operation == "DeleteStack":
            raise ClientError(
                {"Error": {"Code": "ValidationError", "Message": "TerminationProtection is on"}}, operation
            )
        return call(self, operation, arguments)

    with monkeypatch.context() as protected:
        protected.setattr(botocore.client.BaseClient, "_make_api_call", refuse)
        assert run("destroy", "--stack", where.stack) == 1
    assert "TerminationProtection" in capsys.readouterr().err
    assert is_there(where)
    assert len(client("s3").list_object_versions(Bucket=bucket)["Versions"]) == 3


COMMANDS = ["admin", "logs", "destroy"]


@pytest.mark.parametrize("what", COMMANDS)
def test_a_stack_that_is_not_there_is_an_error_without_a_traceback(
    what: str, typed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    typed += ["root", "secret-123", "secret-123"]
    assert run(what, "--stack", "no-such-stack") == 1
    said = capsys.readouterr().err
    assert said.startswith("There is no deployed stack no-such-stack in us-east-1. Deploy it first (make deploy)")
    assert said.count("\n") == 1
    assert len(typed) == 3, "it asked before it looked"


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Somebody who has never used AWS: no credentials, no region, and no other place to find any."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {"CONFIG_FILE": "config", "SHARED_CREDENTIALS_FILE": "credentials"}.items():
        monkeypatch.setenv(f"AWS_{name}", str(tmp_path / value))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize("what", COMMANDS)
def test_without_a_region_it_says_what_to_do(
    what: str, typed: list[str], became: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(what) == 1
    said = capsys.readouterr().err
    assert "region" in said
    assert "make deploy" in said
    assert said.count("\n") == 1
    assert became == typed == []


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize("what", ["check", "deploy", *COMMANDS])
def test_without_credentials_it_says_so_and_asks_nothing(
    what: str, typed: list[str], became: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    typed += ["root", "secret-123", "secret-123"]
    assert run(what, "--region", "eu-west-1") == 1
    said = capsys.readouterr()
    assert "There are no AWS credentials." in said.out + said.err
    assert became == []
    assert len(typed) == 3


@pytest.mark.usefixtures("nobody")
def test_a_profile_that_there_is_not_is_named(became: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("deploy", "--profile", "no-such") == 1
    assert "no-such" in capsys.readouterr().err
    assert became == []


def test_credentials_that_aws_does_not_take_are_told_before_anything_is_asked(
    monkeypatch: pytest.MonkeyPatch, became: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ClientError({"Error": {"Code": "ExpiredToken", "Message": "expired"}}, "GetCallerIdentity")

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", refuse)
    for what in ("check", "deploy", *COMMANDS):
        assert run(what, "--region", "eu-west-1") == 1
        said = capsys.readouterr()
        assert (
            "AWS does not take these credentials (ExpiredToken). Sign in again, or set others." in said.out + said.err
        )
    assert became == []


def test_the_makefile_asks_aws_before_it_builds() -> None:
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\ndeploy:")[2].partition("\n\n")[0]
    assert "build" not in recipe.partition("##")[0]
    assert (
        recipe.index("local.release.deploy check")
        < recipe.index("$(MAKE) --no-print-directory build")
        < recipe.index("deploy deploy")
    )


def test_logs_are_the_stacks_own(where: Where, became: list[list[str]]) -> None:
    run("logs", "--stack", where.stack, "--region", "us-east-1", "--filter", "ERROR")
    group = where.resource("AWS::Logs::LogGroup", "LogGroup")
    nothing_else = ["logs", "--config-env", "none"]
    assert became == [[*nothing_else, "--cw-log-group", group, "--tail", "--region", "us-east-1", "--filter", "ERROR"]]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's samconfig.toml in the folder in which make runs, and an account with Lambda's usual limit."""
    path = tmp_path / "samconfig.toml"
    path.write_text((ROOT / "samconfig.toml").read_text())
    monkeypatch.chdir(tmp_path)

    def run(self: Preflight, _: dict[str, str]) -> Preflight:
        self.concurrency = Concurrency(limit=1000, unreserved=1000)
        return self

    monkeypatch.setattr(Preflight, "run", run)  # the embedded AWS of these tests has no STS
    return path


def keep(config: Path, lines: str, stage: str = "default") -> None:
    heading = f"[{stage}.deploy.parameters]\n"
    config.write_text(config.read_text().replace(heading, f"{heading}{lines}\n"))


SHARE = 'AccountConcurrency="1000" StreamConcurrency="500" CompletionConcurrency="200"'


def test_it_asks_for_everything_the_first_time_only(config: Path, became: list[list[str]]) -> None:
    run("deploy")
    run("deploy", "--region", "eu-central-1", "--no-confirm-changeset")
    run("deploy", "--region=eu-central-1")
    keep(config, 'region = "eu-west-1"')
    run("deploy", "--parameter-overrides", "DeletionProtection=false")
    assert became == [
        ["deploy", "--guided", "--parameter-overrides", SHARE],
        ["deploy", "--parameter-overrides", SHARE, "--region", "eu-central-1", "--no-confirm-changeset"],
        ["deploy", "--parameter-overrides", SHARE, "--region=eu-central-1"],
        ["deploy", "--parameter-overrides", f'DeletionProtection="false" {SHARE}'],
    ]
    assert Where.said(None, None) == Where("aideer", "eu-west-1")
    assert Where.said("other", "us-west-2") == Where("other", "us-west-2")


def test_the_accounts_limit_wins_over_what_was_kept_and_the_operators_cap_over_the_share(
    config: Path, became: list[list[str]]
) -> None:
    keep(config, 'region = "eu-west-1"\nparameter_overrides = "AccountConcurrency=10 StreamConcurrency=300"')
    run("deploy")
    run("deploy", "--parameter-overrides", "StreamConcurrency=none", "Metrics=false", "--no-confirm-changeset")
    assert became == [
        [
            "deploy",
            "--parameter-overrides",
            'AccountConcurrency="1000" StreamConcurrency="300" CompletionConcurrency="200"',
        ],
        [
            "deploy",
            "--parameter-overrides",
            'AccountConcurrency="1000" StreamConcurrency="none" Metrics="false" CompletionConcurrency="200"',
            "--no-confirm-changeset",
        ],
    ]


def test_what_was_built_for_other_processors_is_not_deployed(
    config: Path, monkeypatch: pytest.MonkeyPatch, became: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARCHITECTURE", "arm64")
    run("deploy")
    assert became == [["deploy", "--guided", "--parameter-overrides", f'Architecture="arm64" {SHARE}']]
    keep(
        config,
        'region = "eu-west-1"\nparameter_overrides = "Architecture=\\"x86_64\\" Throttles=\\"all=1/1 link=1/1\\""',
    )
    assert run("deploy") == 1
    assert "x86_64" in capsys.readouterr().err
    monkeypatch.setenv("ARCHITECTURE", "")
    run("deploy")
    assert became[1:] == [
        ["deploy", "--parameter-overrides", f'Architecture="x86_64" Throttles="all=1/1 link=1/1" {SHARE}']
    ]
    assert deployed_architecture() == "x86_64"


def test_a_new_stage_asks_for_region_and_address_and_takes_from_production_only_what_fits_both(
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    typed: list[str],
    became: list[list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    keep(
        config,
        'region = "eu-west-1"\nparameter_overrides = "ProviderRegion=singapore WechatCallbackUrl=https://a.example '
        'StreamConcurrency=300 AlarmEmail=ops@example.com"',
    )
    monkeypatch.setenv("STAGE", "staging")
    typed += ["", "staging@example.com"]
    assert run("check") == 0
    assert "the stack aideer-staging, with tables and secrets of its own" in capsys.readouterr().out
    run("deploy")
    told = (
        'ProviderRegion="singapore" AlarmEmail="staging@example.com" AccountConcurrency="1000" StreamConcurrency="50" '
        'CompletionConcurrency="20"'
    )
    assert became == [["deploy", "--parameter-overrides", told, "--config-env", "staging"]]
    assert "AWS sends an e-mail to staging@example.com" in capsys.readouterr().out
    assert Where.said(None, None) == Where("aideer-staging", "eu-west-1")
    monkeypatch.delenv("STAGE")
    assert Where.said(None, None) == Where("aideer", "eu-west-1")


def test_a_new_stage_without_anybody_at_the_terminal_says_what_to_tell_it(
    config: Path, monkeypatch: pytest.MonkeyPatch, became: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STAGE", "staging")
    monkeypatch.setattr("builtins.input", lambda _: (_ for _ in ()).throw(EOFError))
    assert run("check") == 1
    assert "ARGS='--region us-east-1 --no-confirm-changeset'" in capsys.readouterr().err
    run("deploy", "--region", "us-east-1", "--no-confirm-changeset")
    assert became[0][-5:] == ["--config-env", "staging", "--region", "us-east-1", "--no-confirm-changeset"]


@pytest.mark.parametrize(
    ("stage", "arguments", "said"),
    [
        ("", ["deploy", "--stack-name", "aideer-staging"], "Say STAGE=staging"),
        ("", ["deploy", "--config-env", "staging"], "make deploy STAGE=staging"),
        ("staging", ["check", "--stack-name=aideer"], "Say STAGE=production"),
        ("staging", ["deploy", "--config-env=default"], "Leave --config-env out"),
        ("", ["destroy", "--stack", "aideer-staging"], "Say STAGE=staging"),
        ("staging", ["destroy", "--stack", "aideer"], "Say STAGE=production"),
        ("staging", ["admin", "--stack", "aideer"], "Say STAGE=production"),
        ("staging", ["rollback", "--stack", "aideer"], "Say STAGE=production"),
        ("stagging", ["logs"], "has no stage stagging. It has production, staging."),
    ],
)
def test_stages_are_not_mixed_up(
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    typed: list[str],
    became: list[list[str]],
    capsys: pytest.CaptureFixture[str],
    stage: str,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.setenv("STAGE", stage)
    typed += ["a", "b"]
    assert run(*arguments) == 1
    assert said in capsys.readouterr().err
    assert became == []
    assert len(typed) == 2, "it asked before it looked"


@pytest.mark.parametrize(
    ("text", "said"), [(None, "There is no samconfig.toml here"), ("[default", "samconfig.toml cannot be read")]
)
def test_a_file_of_stages_that_cannot_be_read_is_told(
    config: Path, capsys: pytest.CaptureFixture[str], text: str | None, said: str
) -> None:
    config.unlink()
    if text:
        config.write_text(text)
    for what in ("check", "deploy", *COMMANDS):
        assert run(what) == 1
        assert said in capsys.readouterr().err


def test_an_address_that_is_none_is_not_kept(
    config: Path, monkeypatch: pytest.MonkeyPatch, typed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STAGE", "staging")
    before = config.read_text()
    typed += ["", "nobody"]
    assert run("check") == 1
    assert "nobody is no e-mail address. Nothing was kept." in capsys.readouterr().err
    assert config.read_text() == before


def test_two_stages_never_share_a_stack(
    config: Path, became: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(config.read_text().replace('"aideer-staging"', '"aideer"'))
    for what in ("check", "deploy", *COMMANDS):
        assert run(what) == 1
        assert "names the stack aideer in two stages" in capsys.readouterr().err
    assert became == []


def test_a_stack_beside_the_stages_own_has_releases_of_its_own(
    config: Path, became: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a trial would be the release to which production goes back."""
    keep(config, 'region = "eu-west-1"')
    run("deploy", "--stack-name", "trial")
    run("deploy", "--stack-name", "trial", "--s3-prefix", "elsewhere")
    given = ["deploy", "--parameter-overrides", SHARE, "--s3-prefix", "trial", "--stack-name", "trial"]
    assert became == [given, [*given, "--s3-prefix", "elsewhere"]]
    prefixes: list[str] = []
    monkeypatch.setattr(deploy.rollback, "go_back", lambda _, given, *__, **___: prefixes.append(given["s3_prefix"]))
    assert [run("rollback", "--stack", "trial"), run("rollback", "--stack", "aideer"), run("rollback")] == [0, 0, 0]
    assert prefixes == ["trial", "aideer", "aideer"]


def test_two_stages_never_mix_up_their_releases(
    config: Path, became: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = config.read_text()
    copied = text[text.index("[staging.global") :].replace("[staging.", "[trial.").replace('"aideer-staging"', '"t"', 1)
    config.write_text(f"{text}\n{copied}")
    for stage in ("staging", "trial"):
        monkeypatch.setenv("STAGE", stage)
        for what in ("check", "deploy", "rollback"):
            assert run(what) == 1
            assert "has the s3_prefix aideer-staging in two stages" in capsys.readouterr().err
    monkeypatch.setenv("STAGE", "staging")
    assert run("logs", "--stack", "nowhere") == 1
    assert "There is no deployed stack nowhere" in capsys.readouterr().err, "these need no release"
    assert became == []


class Lambda:
    """Notes what it is asked, and answers."""

    def __init__(self, answer: dict[str, Any], error: str | None = None) -> None:
        self.asked: list[dict[str, Any]] = []
        self._answer, self._error = answer, error

    def invoke(self, **request: Any) -> dict[str, Any]:
        self.asked.append(request)
        payload = io.BytesIO(json.dumps(self._answer).encode())
        return {"Payload": payload, **({"FunctionError": self._error} if self._error else {})}


def with_function(monkeypatch: pytest.MonkeyPatch, function: Lambda) -> None:
    monkeypatch.setattr(Where, "resource", lambda *_: "aideer-OperationsMakeAdminFunction-1")
    monkeypatch.setattr(Where, "client", lambda *_: function)


def test_an_admin_is_made_and_the_password_is_nowhere(
    typed: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    function = Lambda({"user_id": "u1"})
    with_function(monkeypatch, function)
    typed += ["root", "hunter-22", "hunter-22"]
    assert run("admin") == 0
    [request] = function.asked
    assert json.loads(request["Payload"]) == {"username": "root", "password": "hunter-22"}
    said = capsys.readouterr()
    assert "root is an administrator of aideer: u1" in said.out
    assert "hunter" not in said.out + said.err


@pytest.mark.parametrize("passwords", [["short"], ["hunter-22", "hunter-23"]])
def test_a_password_that_cannot_be_meant_is_not_sent(
    typed: list[str], monkeypatch: pytest.MonkeyPatch, passwords: list[str]
) -> None:
    function = Lambda({"user_id": "u1"})
    with_function(monkeypatch, function)
    typed += ["root", *passwords]
    assert run("admin") == 1
    assert function.asked == []


def test_a_refusal_is_told_without_what_was_typed(
    typed: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = {"errorType": "ValidationError", "errorMessage": "hunter-22"}
    with_function(monkeypatch, Lambda(answer, "Unhandled"))
    typed += ["?", "hunter-22", "hunter-22"]
    assert run("admin") == 1
    said = capsys.readouterr().err
    assert "ValidationError" in said
    assert "hunter" not in said


def test_a_name_that_somebody_has_is_told_without_what_was_typed(
    typed: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_function(monkeypatch, Lambda({"errorType": "Conflict", "errorMessage": "root hunter-22"}, "Unhandled"))
    typed += ["root", "hunter-22", "hunter-22"]
    assert run("admin") == 1
    said = capsys.readouterr().err
    assert "Choose another name" in said
    assert not re.search("root|hunter", said)


def test_a_password_is_never_an_argument() -> None:
    command = [deploy.sys.executable, "-m", "local.release.deploy", "admin", "--password", "hunter-22"]
    ended = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert ended.returncode == 2
