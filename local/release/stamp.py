"""The stamp of a deployment: a digest of its parameters, as a variable of every function.

SAM publishes a function's next version if the text of its properties changes. It compares references, not values. So a changed
parameter alone would reach no version, and requests would go on with the old value. The stamp changes that text.
"""

import hashlib
import json
import re
import secrets
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from local.release.build import BUILD

_STAMP = re.compile(r"(\bDEPLOYED_WITH: ).*")
_DEPLOYED = re.compile(r"""DEPLOYED_WITH["']?: ["']?([0-9a-f]{16})""")


def write(cloudformation: Any, stack: str, overrides: dict[str, str], build: Path = BUILD) -> None:
    """Write the stamp of a deployment with these parameters into the built template.

    If no parameter changes, it is the stamp of the deployed stack, so that nothing changes. Otherwise it differs from that one,
    even if the stack runs an earlier release, which had these parameters then.
    """
    deployed, known = _read(cloudformation, stack)
    values = {**deployed, **overrides}
    changed = hashlib.sha256(repr((known, sorted(values.items()))).encode()).hexdigest()[:16]
    _replace(known if values == deployed else changed, build)


def write_new(build: Path = BUILD) -> None:
    """Write a stamp that no other deployment has, for one whose parameters the SAM CLI asks for."""
    _replace(secrets.token_hex(8), build)


def _replace(stamp: str, build: Path) -> None:
    template = build / "template.yaml"
    if template.exists():  # if not, the SAM CLI says so
        template.write_text(_STAMP.sub(rf"\g<1>'{stamp}'", template.read_text(encoding="utf-8")), encoding="utf-8")


def _read(cloudformation: Any, stack: str) -> tuple[dict[str, str], str]:
    """Return the parameters of the deployed stack, and its stamp. Both are empty if there is no such stack yet."""
    try:
        [described] = cloudformation.describe_stacks(StackName=stack)["Stacks"]
        body = cloudformation.get_template(StackName=stack, TemplateStage="Original")["TemplateBody"]
    except ClientError:
        return {}, ""
    found = _DEPLOYED.search(body if isinstance(body, str) else json.dumps(body))
    parameters = {item["ParameterKey"]: item["ParameterValue"] for item in described.get("Parameters", [])}
    return parameters, found[1] if found else ""
