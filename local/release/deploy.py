"""`make deploy`, `make logs`, `make admin` and `make destroy`: a stack in AWS, with the credentials and region that botocore finds.

Its name and region are those of samconfig.toml, where `make deploy` keeps what it was told the first time, unless --stack and
--region say otherwise.
"""

import argparse
import contextlib
import getpass
import itertools
import json
import os
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError, WaiterError

from local.release.build import CONFIG, deployed_architecture

SAM = Path(sys.executable).with_name("sam")
PASSWORD_LENGTH = (6, 255)
ANY_REGION = "us-east-1"
"""The region for asking who the operator is, if no region is known yet. The SAM CLI asks for the stack's region afterwards."""
DELETED = {"Delay": 10, "MaxAttempts": 180}
FIRST = """The SAM CLI now asks for everything once: a return takes what is proposed, and samconfig.toml keeps the answers.
Two questions want a y: whether TasksStreamFunction's URL may be without authentication (like every function, it checks its
callers' tokens itself), and the last one, whether to deploy."""

HINTS = {
    "ValidationError": "Is it a name that may be?",
    "Conflict": "Somebody who is no administrator has this name already, with another password. Choose another name.",
}
"""Explanations of errors of the function that makes an administrator, by error class."""


NOT_DEPLOYED = "Deploy it first (make deploy), or name another with ARGS='--stack NAME --region REGION'."
NO_CREDENTIALS = (
    "There are no AWS credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or sign in with the AWS CLI "
    "(aws configure, aws sso login)."
)
BAD_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "SignatureDoesNotMatch",
    }
)
"""AWS's error codes for credentials that are invalid or have expired."""


class OperationError(Exception):
    """The operation cannot be done. The message is for the console."""


@dataclass(frozen=True)
class Where:
    """A stack's name and, if it is known, its region."""

    stack: str
    region: str | None

    @classmethod
    def said(cls, stack: str | None, region: str | None, config: Path = CONFIG) -> "Where":
        """Take each value from the command line, or else from samconfig.toml."""
        kept = tomllib.loads(config.read_text())["default"]
        everywhere, deploy = (kept.get(part, {}).get("parameters", {}) for part in ("global", "deploy"))
        return cls(
            stack or deploy.get("stack_name") or everywhere["stack_name"],
            region or deploy.get("region") or everywhere.get("region"),
        )

    def client(self, service: str) -> Any:
        """Return a client of this service, in the stack's region."""
        return botocore.session.get_session().create_client(service, region_name=self.region)

    def resources(self, kind: str) -> dict[str, str]:
        """Return the stack's resources of this type: logical id -> physical id. Raise OperationError if there is no such stack."""
        try:
            pages = self.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=self.stack)
            return {
                resource["LogicalResourceId"]: resource["PhysicalResourceId"]
                for page in pages
                for resource in page["StackResourceSummaries"]
                if resource["ResourceType"] == kind and resource.get("PhysicalResourceId")
            }
        except NoRegionError:
            raise OperationError(f"Nothing says in which region {self.stack} is. {NOT_DEPLOYED}") from None
        except ClientError as error:
            if "does not exist" not in error.response["Error"].get("Message", ""):
                raise
            region = f" in {self.client('cloudformation').meta.region_name}"
            raise OperationError(f"There is no deployed stack {self.stack}{region}. {NOT_DEPLOYED}") from None

    def resource(self, kind: str, logical_id: str) -> str:
        """Return the physical id of one resource. Raise OperationError if the stack lacks it: it is a different stack, or
        incomplete.
        """
        try:
            return self.resources(kind)[logical_id]
        except KeyError:
            raise OperationError(f"The stack {self.stack} has no {logical_id}.") from None


def deploy(more: list[str], config: Path = CONFIG) -> NoReturn:
    """Deploy the build. If samconfig.toml has no region yet, the SAM CLI first asks for everything and keeps the answers.

    Raise OperationError if the build is for another processor architecture than the stack's.
    """
    known = tomllib.loads(config.read_text())["default"]
    guided = not any("region" in known.get(part, {}).get("parameters", {}) for part in ("global", "deploy"))
    wanted, kept = os.environ.get("ARCHITECTURE"), deployed_architecture(config)
    if wanted and kept and wanted != kept:
        raise OperationError(
            f"This was built for {wanted}, and samconfig.toml deploys {kept}. Change Architecture there, or leave out ARCHITECTURE."
        )
    if not guided or any(said.partition("=")[0] == "--region" for said in more):
        _become_sam("deploy", *more)
    print(FIRST)
    proposed = ["--parameter-overrides", f"Architecture={wanted}"] if wanted and not more else []
    _become_sam("deploy", "--guided", *proposed, *more)


def check(more: list[str], config: Path = CONFIG) -> None:
    """Check that AWS accepts the operator, before anything is built or asked.

    Raises
    ------
    OperationError
        There are no credentials, or AWS does not accept them.
    """
    known = tomllib.loads(config.read_text())["default"]
    kept: dict[str, Any] = {}
    for part in ("global", "deploy"):
        kept |= known.get(part, {}).get("parameters", {})
    profile, region = (
        _option_value("profile", more) or kept.get("profile"),
        _option_value("region", more) or kept.get("region"),
    )
    session = botocore.session.Session(profile=profile)
    region = region or session.get_config_variable("region") or ANY_REGION
    quick = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2})
    sts: Any = session.create_client("sts", region_name=region, config=quick)
    try:
        sts.get_caller_identity()
    except (NoCredentialsError, ClientError) as error:
        raise OperationError(explain(error)) from None


def explain(error: Exception) -> str:
    """Return one sentence that explains why a command cannot use AWS."""
    if isinstance(error, NoCredentialsError):
        return NO_CREDENTIALS
    if isinstance(error, NoRegionError):
        return f"Nothing says in which region to look. {NOT_DEPLOYED}"
    return (_explain_credentials(error) if isinstance(error, ClientError) else None) or str(error)


def _explain_credentials(error: ClientError) -> str | None:
    code = error.response["Error"].get("Code", "")
    if code not in BAD_CREDENTIALS:
        return None
    return f"AWS does not take these credentials ({code}). Sign in again, or set others."


def _option_value(option: str, arguments: list[str]) -> str | None:
    """Return the value of --option on a command line of the SAM CLI."""
    for argument, after in itertools.pairwise([*arguments, ""]):
        name, equals, value = argument.partition("=")
        if name == f"--{option}":
            return value if equals else after
    return None


def logs(where: Where, more: list[str]) -> NoReturn:
    """Show the logs of all functions, and follow new lines."""
    group = where.resource("AWS::Logs::LogGroup", "LogGroup")
    region = ["--region", where.region] if where.region else []
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
    print(f"{username} is an administrator: {result['user_id']}")


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
    for bucket in buckets:
        _empty(s3, bucket)
    stack_id = cloudformation.describe_stacks(StackName=where.stack)["Stacks"][0]["StackId"]
    cloudformation.delete_stack(StackName=stack_id)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=stack_id, WaiterConfig=DELETED)
    for bucket in buckets:  # the template keeps the bucket when the stack is deleted, which protects it from accidents
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
    parser.add_argument("what", choices=("check", "deploy", "logs", "admin", "destroy"))
    parser.add_argument("--stack", help="another than samconfig.toml's")
    parser.add_argument("--region", help="another than samconfig.toml's")
    what, *rest = arguments or [""]
    try:
        if what in ("check", "deploy"):  # all arguments are for the SAM CLI
            check(rest)
            if what == "deploy":
                deploy(rest)
            return 0
        given, more = parser.parse_known_args(arguments)
        if more and given.what != "logs":
            parser.error(f"unknown: {' '.join(more)}")
        where = Where.said(given.stack, given.region)
        if given.what == "logs":
            logs(where, more)
        (admin if given.what == "admin" else destroy)(where)
    except (OperationError, BotoCoreError, ClientError, WaiterError) as error:
        print(explain(error), file=sys.stderr)
        return 1
    except (KeyboardInterrupt, EOFError):
        print("\nNothing was done.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
