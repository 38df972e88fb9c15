"""The contract's table, the template, the events and the OpenAPI document name the same calls, and say the same of them."""

import json

import pytest

from local.stack.template import ROOT, Template
from tests.route_matrix import CALLS, Call, row

DOCUMENT = json.loads((ROOT / "functions/docs/openapi.json").read_text(encoding="utf-8"))
ROUTED = {
    (event.properties["Method"].upper(), event.properties["Path"]): function
    for function in Template().functions.values()
    for event in function.events
    if event.type == "HttpApi" and event.properties["Method"] != "HEAD"
}
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
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=str)


@pytest.mark.parametrize(("method", "path"), ROUTED, ids=lambda part: part)
def test_a_route_of_the_template_has_its_row(method: str, path: str) -> None:
    row(method, path)


@each_call
def test_a_call_of_the_contract_has_its_function(call: Call) -> None:
    assert (call.method, call.path) in ROUTED, f"template.yaml has no function for {call}"


@each_call
def test_a_call_of_the_contract_has_its_event(call: Call) -> None:
    function = ROUTED[call.method, call.path]
    keys = {
        (event.properties["Method"].upper(), event.properties["Path"])
        for event in function.events
        if event.type == "HttpApi"
    }
    assert keys & EVENTS, f"no file of events/ is a request of {call}"


def test_events_are_requests_of_the_contract() -> None:
    assert set(CALLS) >= EVENTS


@each_call
def test_a_call_of_the_contract_is_documented_with_its_statuses(call: Call) -> None:
    assert (call.method, call.path) in OPERATIONS, f"{call} is not in the document: make docs"
    operation = OPERATIONS[call.method, call.path]
    with_body = {415} if "requestBody" in operation else set()
    assert {int(status) for status in operation["responses"] if status != "default"} == call.statuses | with_body
    assert bool(operation.get("security")) == (call.who != "anyone")


def test_nothing_else_is_documented() -> None:
    assert set(OPERATIONS) <= set(CALLS)
