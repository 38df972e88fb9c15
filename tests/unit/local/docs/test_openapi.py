"""What the OpenAPI document says besides types, so that people, linters and clients' generators can use it."""

import json
import re
from typing import Any

import pytest

from local.docs import openapi_details, refusals, streams
from local.stack.template import ROOT
from tests.conformance import document
from tests.route_matrix import CALLS

OPERATIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    operation["operationId"]: (method.upper(), path, operation)
    for path, operations in document()["paths"].items()
    for method, operation in operations.items()
}
each_operation = pytest.mark.parametrize("name", OPERATIONS)
PRECISE = (402, 409, 410, 412, 413, 428, 429, 502)
"""Statuses that few functions refuse with: what the source can reach is what a request can provoke, but for these."""
UNPROVOKED = {
    "tasks_quote": {
        402,
        409,
        429,
    },  # the offer says `affordable` instead, and another task is no obstacle; too many counts are estimated by bytes
    "tasks_poll": {413},
    "tasks_stream": {413},  # the prompt was read when the task was accepted
    "ui_resume": {413},  # as in tasks_stream
    "session_wechat_authorize": {429, 502},  # it only leads to WeChat's page
}


@each_operation
def test_an_operation_is_described_and_says_who_may_call(name: str) -> None:
    method, path, operation = OPERATIONS[name]
    assert len(operation["description"]) > 15, f"the handler of {name} needs a docstring that says what the call does"
    public = CALLS[method, path].who == "anyone"
    assert (operation["security"] == []) == public


@each_operation
def test_a_refusal_names_its_codes(name: str) -> None:
    for status, answer in OPERATIONS[name][2]["responses"].items():
        if "400" <= status <= "599":
            assert re.search(r"`\w+`", answer["description"]), (
                f"{name} documents {status}, and nothing that its handler calls raises such an error: "
                f"call the domain, or take {status} out of errors= and out of the row in tests/route_matrix.py; then: make docs"
            )


@each_operation
def test_what_can_be_refused_is_documented(name: str) -> None:
    operation = OPERATIONS[name][2]
    documented = {int(status) for status in operation["responses"] if status.isdigit()}
    source = streams.SOURCES.get(name, (name.removesuffix("_at_root").replace("_", ".", 1),))
    reached = {refusal.status for refusal in refusals.of_handler(*source)} & set(PRECISE)
    missing = reached - documented - UNPROVOKED.get(name, set())
    assert not missing, f"{name} can refuse with {missing}: add them to errors= and to its row in tests/route_matrix.py"


def test_the_fields_of_errors_are_declared() -> None:
    schemas = document()["components"]["schemas"]
    for code, (always, ever) in refusals.extra_fields().items():
        schema = schemas[code.title().replace("_", "")]
        assert set(schema["properties"]) == {"detail", "code", *ever}
        assert set(schema["required"]) == {"detail", "code", *always}


@each_operation
def test_a_successful_answer_has_one_media_type(name: str) -> None:
    operation = OPERATIONS[name][2]
    assert all(len(answer.get("content", {})) <= 1 for answer in operation["responses"].values())


def test_headers_have_one_spelling() -> None:
    names = {
        header
        for _, _, operation in OPERATIONS.values()
        for header in [
            *(p["name"] for p in operation.get("parameters", []) if p["in"] == "header"),
            *(header for answer in operation["responses"].values() for header in answer.get("headers", {})),
        ]
    }
    assert len(names) > 5
    assert names == {openapi_details._header_name(name) for name in names}
    assert len({name.lower() for name in names}) == len(names)


def test_no_generator_makes_a_field_with_a_default_one_that_must_be_sent() -> None:
    schemas = document()["components"]["schemas"]
    sent = openapi_details._reach(
        schemas, [operation.get("requestBody", {}) for _, _, operation in OPERATIONS.values()]
    )
    answered = openapi_details._reach(schemas, [operation["responses"] for _, _, operation in OPERATIONS.values()])
    assert sent & answered == set()
    fields = {
        (name, field): schema for name in schemas for field, schema in schemas[name].get("properties", {}).items()
    }
    assert [place for place, schema in fields.items() if "default" in schema] == []
    assert "Default: `true`." in fields["NewTask", "stream"]["description"]
    assert "stream" not in schemas["NewTask"].get("required", [])


def test_the_document_is_licensed_as_the_project_is() -> None:
    assert document()["info"]["license"] == {"name": "MIT", "identifier": "MIT"}
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")


def test_the_linter_is_pinned_names_no_registry_and_runs_with_every_change() -> None:
    package = json.loads((ROOT / "node" / "package.json").read_text(encoding="utf-8"))
    lock = (ROOT / "node" / "package-lock.json").read_text(encoding="utf-8")
    assert all(
        re.fullmatch(r"[0-9.]+", version) for version in (package["devDependencies"] | package["dependencies"]).values()
    )
    assert "resolved" not in lock
    for name, entry in json.loads(lock)["packages"].items():
        assert not name or entry["integrity"].startswith("sha512-")
        assert "://" not in json.dumps({**entry, "funding": None})
    assert "make openapi-lint" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
