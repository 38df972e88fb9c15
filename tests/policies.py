"""Policies of template.yaml against the calls that tests/recorder.py notes: which statements are needless, and which are missing.

tests/integration/test_matrix.py and tests/permissions use it.
"""

import fnmatch
from collections.abc import Iterable, Iterator

from local.stack.template import Template
from tests.recorder import Call

Use = tuple[str, str]
"""An IAM action and its resource, named as the recorder names resources."""

TEMPLATE = Template()
_RESOURCES = TEMPLATE.document["Resources"]


def find_missing(function: str, calls: Iterable[Call]) -> set[Use]:
    """Return the uses among calls of all functions that the policies of this function do not allow."""
    may = set(_allowed(function))
    uses = {(action, resource) for caller, action, resource in calls if caller == function}
    return {use for use in uses if not any(_covers(entry, use) for entry in may)}


def find_needless(function: str, calls: Iterable[Call]) -> set[Use]:
    """Return what the policies of this function allow, and none of its calls uses."""
    uses = {(action, resource) for caller, action, resource in calls if caller == function}
    return {entry for entry in _allowed(function) if not any(_covers(entry, use) for use in uses)}


def write_statements(uses: Iterable[Use]) -> str:
    """Return statements that allow the uses, as template.yaml has them: one a line, with the actions on one resource together."""
    actions: dict[str, list[str]] = {}
    for action, resource in sorted(uses, key=lambda use: use[::-1]):
        actions.setdefault(resource, []).append(action)
    return "\n".join(
        f"            - {{Effect: Allow, Action: {names[0] if len(names) == 1 else '[' + ', '.join(names) + ']'}, "
        f"Resource: {_write_resource(resource)}}}"
        for resource, names in actions.items()
    )


def check_missing(function: str, calls: Iterable[Call]) -> None:
    """Whether the policies of this function allow all of its calls. If not, the failure names the statements to add."""
    missing = find_missing(function, calls)
    assert not missing, (
        f"{function} calls AWS, and its policies do not allow it. "
        f"Add to its Statement in template.yaml:\n{write_statements(missing)}"
    )


def _allowed(function: str) -> Iterator[Use]:
    for policy in _RESOURCES[function]["Properties"].get("Policies", []):
        for statement in policy.get("Statement", []):  # tests/integration/test_warm.py holds the managed ones
            [(kind, target)] = statement["Resource"].items()
            if kind == "Fn::GetAtt":
                target = target[0]
            elif kind == "Fn::Sub":
                target = target.replace("${", "").replace(".Arn}", "")
            actions = statement["Action"]
            for action in [actions] if isinstance(actions, str) else actions:
                yield action, target


def _covers(entry: Use, use: Use) -> bool:
    return entry[0] == use[0] and fnmatch.fnmatchcase(use[1], entry[1])


def _write_resource(resource: str) -> str:
    name, slash, part = resource.partition("/")
    if slash:
        return f'!Sub "${{{name}.Arn}}/{part}{"*" if part.endswith("/") else ""}"'
    if _RESOURCES.get(name, {}).get("Type") == "AWS::SecretsManager::Secret":
        return f"!Ref {name}"
    return f"!GetAtt {name}.Arn"
