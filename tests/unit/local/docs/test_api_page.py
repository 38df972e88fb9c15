"""docs/api.md: made of what the handlers say, and up to date."""

import json
import re

import pytest

from local.docs import api_page


def test_the_page_is_what_the_generator_makes() -> None:
    if api_page.PAGE.read_text(encoding="utf-8") != api_page.document():
        pytest.fail("docs/api.md is out of date: make docs")


def test_every_call_and_every_code_is_on_the_page() -> None:
    page = api_page.document()
    for path, operations in json.loads(api_page.OPENAPI.read_text(encoding="utf-8"))["paths"].items():
        for method in operations:
            assert f"### {method.upper()} {path.removeprefix('/api/v1')}\n" in page
    for code in ("insufficient_credits", "busy", "unauthorized", "task_running", "upstream_timeout"):
        assert f"`{code}`" in page


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string", "minLength": 1, "maxLength": 50}, "string, 1–50 characters"),
        ({"type": "integer", "minimum": 1.0, "maximum": 1000.0, "default": 100}, "integer, 1–1,000; default `100`"),
        ({"anyOf": [{"type": "number", "exclusiveMinimum": 0.0}, {"type": "null"}]}, "number, above 0 or null"),
        ({"enum": ["asc", "desc"], "type": "string", "default": "desc"}, "`asc` or `desc`; default `desc`"),
        (
            {"type": "array", "items": {"$ref": "#/components/schemas/Chat"}, "maxItems": 9},
            "array of [Chat](#chat), at most 9",
        ),
        ({"description": "Ignored."}, "anything"),
    ],
)
def test_a_type_is_said_with_its_limits(schema: dict[str, object], words: str) -> None:
    assert api_page.Page({"paths": {}, "components": {"schemas": {}}}, {})._type(schema) == words


def test_links_lead_to_headings() -> None:
    page = api_page.PAGE.read_text(encoding="utf-8")
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", page, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= headings
