"""docs/deployer-policy.json: the least IAM policy of a person or a pipeline that deploys and operates AIDeer.

`python -m local.release.policy` writes it, and `make docs` does too. The actions come from the resource types of template.yaml,
after the serverless transform. A type without an entry in policy_actions.py is an error, so a new type of resource needs its
actions there. `--stack shop --partition aws-cn --print` prints the policy for another stack's name or another partition.

Names that CloudFormation makes begin with the name of the stack, so `aideer*` covers all stages. Secrets and layers are
exceptions: their names begin with the logical id.
"""

import argparse
import copy
import json
import logging
import sys
from pathlib import Path
from typing import Any

from local.release.policy_actions import ACTIONS, DEPLOYING, OPERATING
from local.release.stages import OperationError
from local.stack.template import ROOT, Template

PAGE = ROOT / "docs" / "deployer-policy.json"
PREFIX = "aideer"
"""The start of the names of all stages' stacks in samconfig.toml."""
MANAGED, INLINE = 6144, 10_240
"""The most characters of a managed policy, and of all inline policies of a role, without white space."""


def resource_types(template: Template | None = None) -> dict[str, list[str]]:
    """Return the types of the resources that CloudFormation gets, each with its logical ids. It runs the serverless transform."""
    from samtranslator.parser.parser import Parser
    from samtranslator.translator.translator import Translator

    logging.getLogger("samtranslator.metrics").setLevel(logging.ERROR)  # it warns of metrics that nobody wants

    class Region:
        region_name = "us-east-1"

    document = copy.deepcopy((template or Template()).document)
    document["Globals"]["Function"]["CodeUri"] = "s3://bucket/key"
    for resource in document["Resources"].values():
        if resource["Type"] == "AWS::Serverless::LayerVersion":
            resource["Properties"]["ContentUri"] = "s3://bucket/key"
    transformed = Translator({}, Parser(), boto_session=Region()).translate(document, {})
    found: dict[str, list[str]] = {}
    for name, resource in transformed["Resources"].items():
        found.setdefault(resource["Type"], []).append(name)
    return found


def policy(types: dict[str, list[str]], stack: str = PREFIX, partition: str = "aws") -> dict[str, Any]:
    """Return the policy document for resources of these types.

    Raises
    ------
    OperationError
        A type has no actions here.
    """
    if unknown := sorted(types.keys() - ACTIONS.keys()):
        raise OperationError(f"local/release/policy_actions.py has no actions for {', '.join(unknown)}. Add them.")
    rights = [(right, name) for kind in sorted(types) for right in ACTIONS[kind] for name in types[kind]]
    rights += [(right, "") for right in (*DEPLOYING, *OPERATING)]
    grouped: dict[tuple[tuple[str, ...], tuple[tuple[str, str], ...]], set[str]] = {}
    by_action: dict[tuple[str, tuple[tuple[str, str], ...]], set[str]] = {}
    for right, logical_id in rights:
        arns = {
            "*" if resource == "*" else f"arn:{partition}:{resource.format(stack=stack, id=logical_id)}"
            for resource in right.resources
        }
        for action in right.actions.split():
            by_action.setdefault((f"{right.service}:{action}", right.conditions), set()).update(arns)
    for (action, conditions), arns in by_action.items():
        grouped.setdefault((tuple(sorted({"*"} if "*" in arns else arns)), conditions), set()).add(action)
    statements = [_statement(sorted(actions), list(arns), dict(limits)) for (arns, limits), actions in grouped.items()]
    return {
        "Version": "2012-10-17",
        "Statement": sorted(statements, key=lambda each: (each["Resource"], each["Action"])),
    }


def _statement(actions: list[str], resources: list[str], conditions: dict[str, str]) -> dict[str, Any]:
    statement: dict[str, Any] = {"Effect": "Allow", "Action": actions, "Resource": resources}
    return statement | ({"Condition": {"StringEquals": conditions}} if conditions else {})


def size(document: dict[str, Any]) -> int:
    """Return the policy's size as IAM counts it: characters without white space."""
    return len(json.dumps(document, separators=(",", ":")))


def parts(document: dict[str, Any], limit: int = MANAGED) -> list[dict[str, Any]]:
    """Return the policy as policies that are each small enough for a managed policy."""
    found: list[dict[str, Any]] = []
    for statement in document["Statement"]:
        longer = {**document, "Statement": [*(found[-1]["Statement"] if found else []), statement]}
        if found and size(longer) <= limit:
            found[-1] = longer
        else:
            found.append({**document, "Statement": [statement]})
    return found


def read(stack: str, partition: str, page: Path = PAGE) -> dict[str, Any]:
    """Return the written policy for another stack's name and another partition."""
    text = page.read_text(encoding="utf-8")
    return dict(json.loads(text.replace("arn:aws:", f"arn:{partition}:").replace(f"{PREFIX}*", f"{stack}*")))


def main(arguments: list[str]) -> int:
    """Write the policy, or print it."""
    parser = argparse.ArgumentParser(prog="python -m local.release.policy")
    parser.add_argument("--stack", default=PREFIX, help="what the names of all stacks begin with")
    parser.add_argument("--partition", default="aws", choices=("aws", "aws-cn", "aws-us-gov"))
    parser.add_argument("--print", action="store_true", help="print it, and write nothing")
    parser.add_argument("--part", type=int, choices=(1, 2), help="print one of the two parts, for two managed policies")
    given = parser.parse_args(arguments)
    try:
        document = policy(resource_types(), given.stack, given.partition)
    except OperationError as error:
        print(error, file=sys.stderr)
        return 1
    if given.part:
        document = parts(document)[given.part - 1]
    text = json.dumps(document, indent=2) + "\n"
    if given.print or given.part:
        print(text, end="")
    else:
        PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
