"""Each function may do exactly what the tests have seen it do: no more, and no less. After a whole `make test`.

What a function does only on a bad day (a read that proves a write whose answer was lost) is seen where tests bring that day
about. So an action that stands here as never used is either not needed, or a path that no test goes.
"""

import fnmatch
from collections.abc import Iterator

import pytest

from local.stack.template import Template
from tests.conftest import CALLS

TEMPLATE = Template()
RESOURCES = TEMPLATE.document["Resources"]


def allowed(function: str) -> Iterator[tuple[str, str]]:
    """(action, resource) of a function's policies, with resources as the recorder names them."""
    for policy in RESOURCES[function]["Properties"]["Policies"]:
        for statement in policy["Statement"]:
            [(kind, target)] = statement["Resource"].items()
            if kind == "Fn::GetAtt":
                target = target[0]
            elif kind == "Fn::Sub":
                target = target.replace("${", "").replace(".Arn}", "")
            actions = statement["Action"]
            for action in [actions] if isinstance(actions, str) else actions:
                yield action, target


@pytest.fixture(scope="module")
def used(request: pytest.FixtureRequest) -> dict[str, set[tuple[str, str]]]:
    calls = request.config.cache.get(CALLS, None) if request.config.cache else None
    assert calls, "run `make test` first: it notes what each function uses"
    found: dict[str, set[tuple[str, str]]] = {name: set() for name in TEMPLATE.functions}
    for function, action, resource in calls:
        found[function].add((action, resource))
    return found


@pytest.mark.parametrize("function", TEMPLATE.functions)
def test_a_function_may_do_what_it_does_and_no_more(function: str, used: dict[str, set[tuple[str, str]]]) -> None:
    may, does = set(allowed(function)), used[function]
    needless = {entry for entry in may if not any(_covers(entry, call) for call in does)}
    missing = {call for call in does if not any(_covers(entry, call) for entry in may)}
    assert (needless, missing) == (set(), set()), f"needless {sorted(needless)}, missing {sorted(missing)}"


def _covers(entry: tuple[str, str], call: tuple[str, str]) -> bool:
    return entry[0] == call[0] and fnmatch.fnmatchcase(call[1], entry[1])
