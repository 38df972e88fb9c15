"""`make deploy`, `logs`, `admin`, `rollback`, `test-alarm` and `destroy`: a stack in AWS, with the credentials that botocore finds.

The variable STAGE says which stage of samconfig.toml is meant; without it, that is production. The stack's name and region are
those of the stage, where `make deploy` keeps what it was told the first time, unless --stack and --region say otherwise.
"""

import argparse
import contextlib
import getpass
import json
import os
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

from botocore.exceptions import BotoCoreError, ClientError, WaiterError

from local.release import alarms, rollback, stamp
from local.release.build import deployed_architecture
from local.release.preflight import ANY_REGION, Preflight, lines
from local.release.stacks import Where, explain
from local.release.stages import DEFAULT, OperationError, Stage, joined, option, taken_overrides

SAM = Path(sys.executable).with_name("sam")
PASSWORD_LENGTH = (6, 255)
DELETED = {"Delay": 10, "MaxAttempts": 180}
FIRST = """The SAM CLI now asks for everything once: a return takes what is proposed, and samconfig.toml keeps the answers.
One question wants a y: the last one, whether to deploy."""
CONFIRM_MAIL = "AWS sends an e-mail to {email}. Alarms arrive only after its link was followed. Then try it: make test-alarm{stage}"
ADDRESS = re.compile(r"[^@\s]+@[^@\s]+")
LIKE_PRODUCTION = ("Architecture", "ProviderRegion", "DashscopeBaseUrl", "AlarmEmail")
"""The parameters that a new stage takes from production. Others, such as domains and callbacks, belong to one stage."""

HINTS = {
    "ValidationError": "Is it a name that may be?",
    "Conflict": "Somebody who is no administrator has this name already, with another password. Choose another name.",
}
"""Explanations of errors of the function that makes an administrator, by error class."""


def check(more: list[str]) -> None:
    """Print what is known of the account and the stack, before anything is built.

    A stage that was never deployed asks for its region and e-mail address first. Production is asked by the SAM CLI.

    Raises
    ------
    OperationError
        The deployment cannot work, or the arguments name another stage.
    """
    stage = _stage(more)
    if not stage.is_production and not (stage.region or option("region", more)):
        stage = _introduce(stage)
    preflight = _preflight(stage, more)
    print(*lines(preflight.findings), sep="\n")
    if preflight.refused:
        raise OperationError("Nothing was deployed.")


def deploy(more: list[str]) -> NoReturn:
    """Deploy the build. If samconfig.toml has no region yet, the SAM CLI first asks for everything and keeps the answers.

    Raises
    ------
    OperationError
        The deployment cannot work, or the build is for another processor architecture than the stack's.
    """
    stage = _stage(more)
    wanted, kept = os.environ.get("ARCHITECTURE"), deployed_architecture(stage)
    if wanted and kept and wanted != kept:
        raise OperationError(
            f"This was built for {wanted}, and samconfig.toml deploys {kept}. Change Architecture there, or leave out ARCHITECTURE."
        )
    preflight = _preflight(stage, more)
    if preflight.refused:
        raise OperationError("\n".join(lines(preflight.findings)))
    said, rest = taken_overrides(more)
    overrides = stage.overrides | ({"Architecture": wanted} if wanted else {}) | said
    if preflight.concurrency:
        overrides |= preflight.concurrency.parameters(overrides, production=stage.is_production)
    arguments = ["--parameter-overrides", joined(overrides)] if overrides else []
    if not stage.is_production:
        arguments += ["--config-env", stage.environment]
    if (prefix := stage.release_prefix(preflight.stack)) != stage.parameters.get("s3_prefix"):
        arguments += ["--s3-prefix", prefix]  # before the operator's own arguments, so that theirs counts
    sys.stdout.flush()
    if stage.region or option("region", more):
        stamp.write(preflight.client("cloudformation"), preflight.stack, overrides)
        if email := overrides.get("AlarmEmail"):
            print(CONFIRM_MAIL.format(email=email, stage="" if stage.is_production else f" STAGE={stage.name}"))
        _become_sam("deploy", *arguments, *rest)
    stamp.write_new()
    print(FIRST)
    _become_sam("deploy", "--guided", *arguments, *rest)


def _stage(more: list[str]) -> Stage:
    """Return the stage to deploy. Raise OperationError if the arguments name another one, or if it shares its releases' place."""
    stage = Stage.read()
    environment = option("config-env", more)
    if environment is not None and environment != stage.environment:
        shown = "" if environment == DEFAULT else f" STAGE={environment}"
        raise OperationError(f"Say the stage to make: make deploy{shown}. Leave --config-env out of ARGS.")
    stage.own(option("stack-name", more) or stage.stack)
    stage.require_own_prefix()
    return stage


def _preflight(stage: Stage, more: list[str]) -> Preflight:
    said, _ = taken_overrides(more)
    return Preflight(stage, more).run(stage.overrides | said)


def _introduce(stage: Stage) -> Stage:
    """Ask for the region and the e-mail address of a new stage, and keep them in samconfig.toml."""
    production = Stage.read("production", stage.config)
    overrides = {
        name: value for name, value in production.overrides.items() if name in LIKE_PRODUCTION
    } | stage.overrides
    proposed = production.region or os.environ.get("AWS_DEFAULT_REGION") or ANY_REGION
    print(f"The stage {stage.name} is new: the stack {stage.stack}, with tables and secrets of its own.")
    try:
        region = input(f"Region [{proposed}]: ").strip() or proposed
        email = input(f"E-mail address for its alarms [{overrides.get('AlarmEmail', '')}]: ").strip()
    except EOFError:
        raise OperationError(
            f"Nobody answers. Say the region: make deploy STAGE={stage.name} ARGS='--region {proposed} --no-confirm-changeset'"
        ) from None
    if email and not ADDRESS.fullmatch(email):
        raise OperationError(f"{email} is no e-mail address. Nothing was kept.")
    if email:
        overrides["AlarmEmail"] = email
    stage.keep(region, overrides)
    print(
        f"samconfig.toml keeps this. Its section [{stage.environment}.deploy.parameters] takes every other parameter too."
    )
    return Stage.read(stage.name, stage.config)


def logs(where: Where, more: list[str]) -> NoReturn:
    """Show the logs of all functions, and follow new lines."""
    group = where.resource("AWS::Logs::LogGroup", "LogGroup")
    region = ["--region", where.region] if where.region else []
    region += ["--profile", where.profile] if where.profile else []
    # Without samconfig.toml: its stack name would make the SAM CLI read the one group again for each function.
    _become_sam("logs", "--config-env", "none", "--cw-log-group", group, "--tail", *region, *more)


def admin(where: Where) -> None:
    """Make an administrator. Ask for the password, and send it only to the function."""
    function = where.resource("AWS::Lambda::Function", "OperationsMakeAdminFunction")
    username = input("Name: ").strip()
    password = getpass.getpass("Password: ")
    if not PASSWORD_LENGTH[0] <= len(password) <= PASSWORD_LENGTH[1]:
        raise OperationError("A password has {} to {} characters.".format(*PASSWORD_LENGTH))
    if getpass.getpass("Again: ") != password:
        raise OperationError("The two differ.")
    payload = json.dumps({"username": username, "password": password}).encode()
    answer = where.client("lambda").invoke(FunctionName=function, Payload=payload)
    result = json.loads(answer["Payload"].read() or "null")
    if answer.get("FunctionError"):
        # The function's message is about the typed values. The error's class is enough.
        kind = result.get("errorType", "error") if isinstance(result, dict) else "error"
        raise OperationError(f"The function answered {kind}. {HINTS.get(kind, 'make logs tells more.')}")
    print(f"{username} is an administrator of {where.stack}: {result['user_id']}")
    if preset_id := result.get("preset_id"):  # an earlier release's function makes none
        print(f"The first public preset is made, so that users can chat: {preset_id}")


def destroy(where: Where) -> None:
    """Delete the stack with everything in it, after the operator has typed its name. Refuse while a table is protected."""
    tables = where.resources("AWS::DynamoDB::Table")
    dynamodb = where.client("dynamodb")
    guarded = [
        logical_id
        for logical_id, name in tables.items()
        if dynamodb.describe_table(TableName=name)["Table"].get("DeletionProtectionEnabled")
    ]
    if guarded:
        raise OperationError(
            f"{where.stack} is protected: {', '.join(sorted(guarded))} refuse to be deleted. Nothing was deleted.\n"
            "To give that up: say DeletionProtection=false among the parameter_overrides of samconfig.toml, and make deploy."
        )
    buckets = where.resources("AWS::S3::Bucket").values()
    print(
        f"This deletes the stack {where.stack} with {len(tables)} tables, all pictures, secrets and logs. It cannot be undone."
    )
    with contextlib.suppress(EOFError):
        if input("To do so, type the stack's name: ") == where.stack:
            _delete(where, list(buckets))
            print(f"{where.stack} is gone")
            return
    raise OperationError("Nothing was deleted.")


def _delete(where: Where, buckets: list[str]) -> None:
    s3, cloudformation = where.client("s3"), where.client("cloudformation")
    stack_id = cloudformation.describe_stacks(StackName=where.stack)["Stacks"][0]["StackId"]
    cloudformation.delete_stack(StackName=stack_id)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=stack_id, WaiterConfig=DELETED)
    # The template keeps the bucket when the stack is deleted. Emptied before, it would be lost if CloudFormation refuses.
    for bucket in buckets:
        with contextlib.suppress(s3.exceptions.NoSuchBucket):
            _empty(s3, bucket)
            s3.delete_bucket(Bucket=bucket)


def _empty(s3: Any, bucket: str) -> None:
    """Delete all objects of a bucket, with all their versions."""
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        if found:
            keys = [{"Key": version["Key"], "VersionId": version["VersionId"]} for version in found]
            failed = s3.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True}).get("Errors")
            if failed:
                raise OperationError(f"{bucket}: {failed[0]['Key']} could not be deleted: {failed[0]['Code']}")


def _become_sam(*arguments: str) -> NoReturn:
    sys.stdout.flush()
    os.execv(SAM, [str(SAM), *arguments])  # noqa: S606 - our own, without a shell


def main(arguments: list[str]) -> int:
    """Run the command, and return the exit code."""
    parser = argparse.ArgumentParser(prog="make", description=__doc__, allow_abbrev=False)
    parser.add_argument("what", choices=("check", "deploy", "logs", "admin", "rollback", "test-alarm", "destroy"))
    parser.add_argument("--stack", help="another than samconfig.toml's")
    parser.add_argument("--region", help="another than samconfig.toml's")
    parser.add_argument("--to", help="for rollback: the release, as the list shows it")
    parser.add_argument("--yes", action="store_true", help="for rollback: do not ask")
    what, *rest = arguments or [""]
    try:
        if what in ("check", "deploy"):  # all arguments are for the SAM CLI
            (check if what == "check" else deploy)(rest)
            return 0
        given, more = parser.parse_known_args(arguments)
        if more and given.what != "logs":
            parser.error(f"unknown: {' '.join(more)}")
        where = Where.said(given.stack, given.region)
        if given.what == "logs":
            logs(where, more)
        if given.what == "rollback":
            stage = Stage.read()
            stage.require_own_prefix()
            parameters = {**stage.parameters, "s3_prefix": stage.release_prefix(where.stack)}
            rollback.go_back(where, parameters, given.to, sure=given.yes)
        else:
            {"admin": admin, "test-alarm": alarms.send_test, "destroy": destroy}[given.what](where)
    except (OperationError, BotoCoreError, ClientError, WaiterError) as error:
        print(explain(error), file=sys.stderr)
        return 1
    except (KeyboardInterrupt, EOFError):
        print("\nNothing was done.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
