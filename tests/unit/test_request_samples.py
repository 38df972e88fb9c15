"""The contract's table, the template, the events and the OpenAPI document name the same calls, and say the same of them."""

import json

import pytest

from local.stack.template import ROOT, Template
from tests.route_matrix import CALLS, STREAMED, Call, row

DOCUMENT = json.loads((ROOT / "functions/docs/openapi.json").read_text(encoding="utf-8"))
ROUTED = {
    (event.properties["Method"].upper(), event.properties["Path"]): function
    for function in Template().functions.values()
    for event in function.events
    if event.type == "HttpApi" and event.properties["Method"] != "HEAD"
} | {STREAMED: next(function for function in Template().functions.values() if function.url)}
OPERATIONS = {
    (method.upper(), path): operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}
EVENTS = {
    tuple(event["routeKey"].split(" ", 1))
    for path in (ROOT / "events").glob("*/*.json")
    if "routeKey" in (event := json.loads(path.read_text(encoding="utf-8")))
}
without_streamed = pytest.mark.parametrize("call", [call for key, call in CALLS.items() if key != STREAMED], ids=str)
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=str)


@pytest.mark.parametrize(("method", "path"), ROUTED, ids=lambda part: part)
def test_a_route_of_the_template_has_its_row(method: str, path: str) -> None:
    row(method, path)


@each_call
def test_a_call_of_the_contract_has_its_function(call: Call) -> None:
    if (call.method, call.path) not in ROUTED:
        pytest.fail(f"tests/route_matrix.py has {call}, and template.yaml has no function for it")


@without_streamed
def test_a_call_of_the_contract_has_its_event(call: Call) -> None:
    function = ROUTED.get((call.method, call.path))
    assert function, f"template.yaml has no function for {call}"
    keys = {
        (event.properties["Method"].upper(), event.properties["Path"])
        for event in function.events
        if event.type == "HttpApi"
    }
    if not keys & EVENTS:
        pytest.fail(f"events/{function.module.replace('.', '/')}.json is missing, or is no request of {call}")


def test_events_are_requests_of_the_contract() -> None:
    unknown = EVENTS - set(CALLS)
    assert not unknown, f"events/ has requests of {unknown}, and tests/route_matrix.py has no row of them"


@each_call
def test_a_call_of_the_contract_is_documented_with_its_statuses(call: Call) -> None:
    if (call.method, call.path) not in OPERATIONS:
        pytest.fail(f"{call} is not in functions/docs/openapi.json: make docs")
    operation = OPERATIONS[call.method, call.path]
    with_body = {415} if "requestBody" in operation else set()
    documented = {int(status) for status in operation["responses"] if status != "default"}
    assert documented == call.statuses | with_body, (
        f"the handler of {call} documents {sorted(documented - call.statuses - with_body)} (errors=) without its row in "
        f"tests/route_matrix.py, and the row has {sorted(call.statuses - documented)} without the handler; then: make docs"
    )
    assert bool(operation.get("security")) == (call.who != "anyone"), (
        f"the row of {call} says {call.who!r}; public= of describe() in its handler says otherwise"
    )


def test_nothing_else_is_documented() -> None:
    unknown = set(OPERATIONS) - set(CALLS)
    assert not unknown, f"functions/docs/openapi.json has {unknown}, and tests/route_matrix.py has no row of them"
