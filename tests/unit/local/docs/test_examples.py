"""The document shows an example of whatever is sent and answered, and the examples are what they are examples of."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from local.docs import api_page, openapi
from tests.conformance import check_schema, document

OPERATIONS = {
    operation["operationId"]: operation
    for operations in document()["paths"].values()
    for operation in operations.values()
}
EXAMPLES = openapi.examples_by_operation()


def bodies(operation: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """What is sent and answered: what it is, its media type, and its description."""
    for media_type, body in operation.get("requestBody", {}).get("content", {}).items():
        yield "request", media_type, body
    for status, answer in operation["responses"].items():
        for media_type, body in answer.get("content", {}).items():
            yield status, media_type, body


def events(text: str) -> list[dict[str, str]]:
    """The events of a stream, field by field."""
    return [dict(line.split(": ", 1) for line in block.split("\n")) for block in text.strip().split("\n\n")]


@pytest.mark.parametrize("name", OPERATIONS)
def test_whatever_is_sent_and_answered_has_an_example_of_its_schema(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation["summary"]
    assert operation["responses"]
    for what, media_type, body in bodies(operation):
        if media_type.startswith("image/") or media_type == "multipart/form-data":
            continue  # no text
        assert "example" in body, f"local/docs/examples.yaml has no example of {name}'s {what}"
        shown = events(body["example"]) if media_type == "text/event-stream" else [body["example"]]
        for example in shown:
            check_schema(body["schema"], example, f"local/docs/examples.yaml: {name} {what}")
    for parameter in operation.get("parameters", []):
        if "example" in parameter:
            check_schema(parameter["schema"], parameter["example"], f"{name} {parameter['name']}")


def test_examples_are_of_what_there_is() -> None:
    for name, examples in EXAMPLES["operations"].items():
        assert name in OPERATIONS, f"local/docs/examples.yaml has {name}, and the document has not: make docs"
        known = {what for what, _, _ in bodies(OPERATIONS[name])}
        unknown = {str(what).partition(" ")[0] for what in examples} - known
        assert not unknown, f"local/docs/examples.yaml has examples of {name}'s {unknown}, which are not documented"


def test_examples_of_errors_have_codes_that_are_raised() -> None:
    raised = set(re.findall(r"\| `(\w+)` \|", api_page.codes())) | {"validation_error"}
    shown = {
        (name, body["example"]["code"])
        for name, operation in OPERATIONS.items()
        for status, _, body in bodies(operation)
        if status.isdigit() and status >= "400"
    }
    assert {(name, code) for name, code in shown if code not in raised} == set()


def test_tags_are_described_and_used() -> None:
    described = [tag["name"] for tag in document()["tags"]]
    used = {tag for operation in OPERATIONS.values() for tag in operation["tags"]}
    assert set(described) == used


def test_every_operation_has_a_name_of_its_own() -> None:
    assert len(OPERATIONS) == sum(len(operations) for operations in document()["paths"].values())
    assert all(re.fullmatch(r"[a-z_]+", name) for name in OPERATIONS)


def test_what_security_refers_to_is_declared() -> None:
    schemes = set(document()["components"]["securitySchemes"])
    for operation in OPERATIONS.values():
        for way in operation.get("security", []):
            assert set(way) <= schemes
