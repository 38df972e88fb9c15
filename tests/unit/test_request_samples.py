"""The contract's table, the template, the events and the OpenAPI document name the same calls, and say the same of them."""

import base64
import email
import json
from typing import Any
from urllib.parse import parse_qsl

import pytest

from local.stack.template import ROOT, Template
from tests.conformance import check_schema
from tests.route_matrix import CALLS, SITE, STREAMED, Call, row

DOCUMENT = json.loads((ROOT / "functions/docs/openapi.json").read_text(encoding="utf-8"))
ROUTED = {
    route: function
    for function in Template().functions.values()
    for event in function.events
    if event.type == "HttpApi" and event.properties["Method"] != "HEAD"
    if (route := (event.properties["Method"].upper(), event.properties["Path"])) not in SITE
} | dict.fromkeys(STREAMED, next(function for function in Template().functions.values() if not function.runs_here))
OPERATIONS = {
    (method.upper(), path): operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}
REQUESTS = {
    str(path.relative_to(ROOT)): event
    for path in sorted((ROOT / "events").glob("*/*.json"))
    if "routeKey" in (event := json.loads(path.read_text(encoding="utf-8")))
    and event["routeKey"] != "$default"  # a Lambda URL's
    and tuple(event["routeKey"].split(" ", 1)) not in SITE
}
"""The events that are requests, by their files."""
EVENTS = {tuple(event["routeKey"].split(" ", 1)) for event in REQUESTS.values()}
without_streamed = pytest.mark.parametrize(
    "call", [call for key, call in CALLS.items() if key not in STREAMED], ids=str
)
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


OTHER_PART = base64.b64encode(
    b'--aideer\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc\r\n--aideer--\r\n'
).decode()


def read_body(event: dict[str, Any], media_type: str) -> Any:
    """The body of an event as a JSON value: the fields of a form by their names."""
    sent = base64.b64decode(event["body"]) if event["isBase64Encoded"] else event["body"].encode()
    if media_type == "application/json":
        return json.loads(sent)
    if media_type == "application/x-www-form-urlencoded":
        return dict(parse_qsl(sent.decode(), keep_blank_values=True, strict_parsing=True))
    message = email.message_from_bytes(f"Content-Type: {event['headers']['content-type']}\r\n\r\n".encode() + sent)
    parts = message.get_payload()
    assert isinstance(parts, list), "no parts"
    return {part.get_param("name", header="content-disposition"): part.as_string() for part in parts}  # type: ignore[union-attr]


def check_body(event: dict[str, Any], what: str) -> None:
    """Whether an event has the body that the document describes for its call: its media type and its schema."""
    method, path = event["routeKey"].split(" ", 1)
    described = OPERATIONS[method, path].get("requestBody", {})
    if "body" not in event:
        assert not described.get("required"), f"{what} has no body, and {method} {path} needs one"
        return
    media_type = event["headers"].get("content-type", "").partition(";")[0]
    known = described.get("content", {})
    assert media_type in known, (
        f"{what} has a body of the type {media_type!r}. {method} {path} takes {list(known) or 'none'}"
    )
    check_schema(known[media_type]["schema"], read_body(event, media_type), what)


@pytest.mark.parametrize("file", REQUESTS)
def test_the_body_of_an_event_is_of_its_schema(file: str) -> None:
    check_body(REQUESTS[file], file)


@pytest.mark.parametrize(
    ("file", "changed", "reason"),
    [
        (
            "events/chats/append.json",
            {"body": '{"messages": [{"role": "user", "text": "Hi"}]}'},
            "'text' was unexpected",
        ),
        ("events/users/redeem.json", {"body": '{"code": "WELCOME-2026"}'}, "'redeem_code' is a required property"),
        (
            "events/users/redeem.json",
            {"headers": {"content-type": "text/plain"}},
            "has a body of the type 'text/plain'",
        ),
        ("events/users/me.json", {"body": "{}"}, "takes none"),
        ("events/session/create.json", {"body": "YT0x"}, "'grant_type' is a required property"),
        ("events/users/avatar_set.json", {"body": OTHER_PART}, "avatar_file"),
    ],
)
def test_a_body_of_another_shape_is_refused(file: str, changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(AssertionError, match=reason):
        check_body({**REQUESTS[file], **changed}, file)


def test_an_event_without_a_needed_body_is_refused() -> None:
    without = {name: value for name, value in REQUESTS["events/tasks/create.json"].items() if name != "body"}
    with pytest.raises(AssertionError, match="has no body, and POST /api/v1/tasks needs one"):
        check_body(without, "an event")


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
