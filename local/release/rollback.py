"""`make rollback`: deploy an earlier release of a stack again, from the template and code that the SAM CLI keeps in its bucket.

Nothing is built. Parameters stay as they are. A rollback that would delete or replace a table, a queue, a secret or a bucket is
refused. Data that the newer release has written stays: one release back can read it.
"""

import contextlib
import json
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError, WaiterError

from local.release.policy_actions import SAM_STACK
from local.release.stacks import Where
from local.release.stages import OperationError
from local.stack.template import DATA_TYPES

SHOWN = 10
UPDATED = {"Delay": 5, "MaxAttempts": 360}
CHANGE_SET = {"Delay": 2, "MaxAttempts": 150}
CHANGEABLE = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")
NAMED = 4
"""Up to this number, the resources of one change are named."""


@dataclass(frozen=True)
class Release:
    """A template that was deployed once. `name` is the start of its checksum."""

    key: str
    uploaded: datetime
    current: bool

    @property
    def name(self) -> str:
        """What an operator types."""
        return self.key.rpartition("/")[2].removesuffix(".template")[:10]


def go_back(where: Where, parameters: dict[str, Any], to: str | None, *, sure: bool) -> None:
    """Show the releases of the stack, and deploy one of them after a yes: `to`, or the one before the current one.

    Raises
    ------
    OperationError
        There is no earlier release, the stack is being changed, or the rollback would delete data.
    """
    cloudformation, s3 = where.client("cloudformation"), where.client("s3")
    stack = _stack(where, cloudformation)
    bucket = parameters.get("s3_bucket") or _bucket(cloudformation)
    prefix = parameters.get("s3_prefix") or where.stack
    found = releases(s3, bucket, prefix, _current(cloudformation, where.stack))
    print(f"Releases of {where.stack}, the newest first:")
    for release in found:
        mark = "  <- now" if release.current else ""
        print(f"  {release.name}  first deployed {release.uploaded:%Y-%m-%d %H:%M} UTC{mark}")
    target = _chosen(found, to)
    url = f"{s3.meta.endpoint_url}/{bucket}/{target.key}"
    change_set = _proposed(cloudformation, stack, url)
    try:
        changes = _changes(cloudformation, where.stack, change_set)
        _refuse_loss(changes)
        print(*_summary(changes), sep="\n")
        if not sure and input(f"Go back to {target.name}? [y/N]: ").strip().lower() != "y":
            raise OperationError("Nothing was changed.")
        cloudformation.execute_change_set(ChangeSetName=change_set, StackName=where.stack)
        change_set = ""
        cloudformation.get_waiter("stack_update_complete").wait(StackName=where.stack, WaiterConfig=UPDATED)
    except WaiterError:
        raise OperationError(
            f"{where.stack} did not go back, and CloudFormation restores what ran before. The events of the stack say why."
        ) from None
    finally:
        if change_set:
            with contextlib.suppress(ClientError):
                cloudformation.delete_change_set(ChangeSetName=change_set, StackName=where.stack)
    print(f"{where.stack} runs {target.name} again. The next make deploy deploys what is checked out here.")


def releases(s3: Any, bucket: str, prefix: str, current: str) -> list[Release]:
    """Return the newest templates below this prefix of the bucket, and mark the one with the text `current`."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    templates = [each for page in pages for each in page.get("Contents", []) if each["Key"].endswith(".template")]
    templates.sort(key=lambda each: each["LastModified"], reverse=True)

    def is_current(key: str) -> bool:
        text: str = s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()
        return text.strip() == current.strip()

    return [Release(each["Key"], each["LastModified"], is_current(each["Key"])) for each in templates[:SHOWN]]


def _chosen(found: list[Release], to: str | None) -> Release:
    if to:
        named = [release for release in found if release.name.startswith(to)]
        if len(named) != 1:
            raise OperationError(f"{to} is not one of the releases above.")
        if named[0].current:
            raise OperationError(f"{to} is what runs now.")
        return named[0]
    positions = [index for index, release in enumerate(found) if release.current]
    if not positions:
        raise OperationError("None of these runs now. Choose one with ARGS='--to RELEASE'.")
    earlier = found[positions[0] + 1 :]
    if not earlier:
        raise OperationError("There is no earlier release.")
    return earlier[0]


def _stack(where: Where, cloudformation: Any) -> dict[str, Any]:
    where.resources("AWS::DynamoDB::Table")  # the usual error if there is no such stack
    stack: dict[str, Any] = cloudformation.describe_stacks(StackName=where.stack)["Stacks"][0]
    if stack["StackStatus"] not in CHANGEABLE:
        raise OperationError(f"{where.stack} is {stack['StackStatus']}, and cannot be changed now.")
    return stack


def _bucket(cloudformation: Any) -> str:
    try:
        outputs = cloudformation.describe_stacks(StackName=SAM_STACK)["Stacks"][0]["Outputs"]
    except ClientError:
        raise OperationError(f"There is no stack {SAM_STACK}, whose bucket keeps the releases.") from None
    return str({output["OutputKey"]: output["OutputValue"] for output in outputs}["SourceBucket"])


def _current(cloudformation: Any, stack: str) -> str:
    body = cloudformation.get_template(StackName=stack, TemplateStage="Original")["TemplateBody"]
    return body if isinstance(body, str) else json.dumps(body)  # botocore parses a body that is JSON


def _proposed(cloudformation: Any, stack: dict[str, Any], url: str) -> str:
    """Make a change set to this template, with the stack's parameters. Return its ARN."""
    known = {each["ParameterKey"] for each in cloudformation.get_template_summary(TemplateURL=url)["Parameters"]}
    kept = [
        {"ParameterKey": each["ParameterKey"], "UsePreviousValue": True}
        for each in stack.get("Parameters", [])
        if each["ParameterKey"] in known
    ]
    answer = cloudformation.create_change_set(
        StackName=stack["StackName"],
        ChangeSetName=f"rollback-{uuid.uuid4().hex[:8]}",
        ChangeSetType="UPDATE",
        TemplateURL=url,
        Parameters=kept,
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    )
    change_set: str = answer["Id"]
    try:
        cloudformation.get_waiter("change_set_create_complete").wait(
            ChangeSetName=change_set, StackName=stack["StackName"], WaiterConfig=CHANGE_SET
        )
    except WaiterError as error:
        last: Any = error.last_response
        cloudformation.delete_change_set(ChangeSetName=change_set, StackName=stack["StackName"])
        raise OperationError(f"CloudFormation refuses this release: {last.get('StatusReason', error)}") from None
    return change_set


def _changes(cloudformation: Any, stack: str, change_set: str) -> list[dict[str, Any]]:
    pages = cloudformation.get_paginator("describe_change_set").paginate(ChangeSetName=change_set, StackName=stack)
    return [change["ResourceChange"] for page in pages for change in page["Changes"]]


def _summary(changes: list[dict[str, Any]]) -> list[str]:
    """Return a line for each kind of change: what happens to how many resources of a type, and their names if they are few."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for change in changes:
        kinds.setdefault((change["Action"], change["ResourceType"]), []).append(change["LogicalResourceId"])
    return [
        f"  {action:7} {len(names):3} {kind}" + (f": {', '.join(sorted(names))}" if len(names) <= NAMED else "")
        for (action, kind), names in sorted(kinds.items())
    ]


def _refuse_loss(changes: list[dict[str, Any]]) -> None:
    lost = [
        change["LogicalResourceId"]
        for change in changes
        if change["ResourceType"] in DATA_TYPES
        and (change["Action"] == "Remove" or change.get("Replacement") in ("True", "Conditional"))
    ]
    if lost:
        raise OperationError(
            f"This release would delete or replace {', '.join(sorted(lost))}, with the data. Nothing was changed. "
            "Deploy a repaired release instead."
        )
