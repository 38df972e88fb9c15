"""How tests wait: no test has a short limit of its own (tests/waiting.py)."""

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
VERBS = {"get", "post", "put", "patch", "delete", "head", "options", "request", "stream", "Client"}


def calls() -> Iterator[tuple[Path, ast.Call]]:
    for path in TESTS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield path, node


def test_each_http_call_says_how_long_it_waits_because_five_seconds_are_too_short() -> None:
    silent = [
        f"{path.relative_to(TESTS)}:{call.lineno}"
        for path, call in calls()
        if isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and (call.func.value.id, call.func.attr in VERBS) == ("httpx", True)
        and not {"timeout", "transport"} & {keyword.arg for keyword in call.keywords}
    ]
    assert silent == []


def test_waits_for_conditions_name_no_limit_of_their_own() -> None:
    limited = [
        f"{path.relative_to(TESTS)}:{call.lineno}"
        for path, call in calls()
        if isinstance(call.func, ast.Name)
        and call.func.id in ("until", "wait_for")
        and any(isinstance(given, ast.Constant) and isinstance(given.value, int | float) for given in call.args)
    ]
    assert limited == []
