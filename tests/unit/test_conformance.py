"""tests/conformance.py: a value is held against its schema as strictly as Redocly holds examples."""

from typing import Any

import pytest
import yaml

from tests.conformance import check_schema, operation


def refusals() -> dict[str, Any]:
    schema: dict[str, Any] = operation("POST", "/api/v1/tasks")["responses"]["404"]["content"]["application/json"][
        "schema"
    ]
    return schema


def test_a_property_that_the_schema_does_not_know_is_named() -> None:
    check_schema(refusals(), {"detail": "Wait.", "code": "not_found"}, "an example")
    with pytest.raises(AssertionError, match=r"an example: .*'or stop it\.' was unexpected"):
        check_schema(refusals(), yaml.safe_load("{detail: Wait, or stop it., code: not_found}"), "an example")


@pytest.mark.parametrize("schema", [{"type": "array", "items": refusals()}, {"anyOf": [refusals(), {"type": "null"}]}])
def test_a_property_is_unknown_in_lists_and_in_alternatives_too(schema: dict[str, Any]) -> None:
    value: Any = {"detail": "Wait.", "code": "not_found"}
    unknown = {**value, "more": 1}
    wrap = (lambda one: [one]) if schema.get("type") == "array" else (lambda one: one)
    check_schema(schema, wrap(value), "an example")
    with pytest.raises(AssertionError):
        check_schema(schema, wrap(unknown), "an example")


def test_all_parts_of_an_all_of_know_properties_together() -> None:
    parts = [{"type": "object", "properties": {name: {"type": "integer"}}} for name in "ab"]
    check_schema({"allOf": parts}, {"a": 1, "b": 2}, "an example")
    with pytest.raises(AssertionError):
        check_schema({"allOf": parts}, {"a": 1, "c": 2}, "an example")


def test_an_object_without_listed_properties_may_have_any() -> None:
    check_schema({"type": "object"}, {"a": 1}, "an example")
    check_schema({"type": "object", "properties": {"a": {}}, "additionalProperties": True}, {"b": 1}, "an example")
