"""Whether requests and answers are what the OpenAPI document says of their operation.

An object may have no property that its schema does not know, as in Redocly's check of examples. The document itself does not
forbid such properties of answers, because clients must accept those of later releases.
"""

import functools
import json
from typing import Any

import jsonschema

from local.docs.openapi import DOCUMENT


@functools.cache
def document() -> dict[str, Any]:
    """The document, as it is served."""
    loaded: dict[str, Any] = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    return loaded


def operation(method: str, path: str) -> dict[str, Any]:
    """The operation of a route, by its path in the template."""
    found: dict[str, Any] = document()["paths"][path][method.lower()]
    return found


@functools.cache
def _strict_components() -> Any:
    return _forbid_unknown(document()["components"])


def _forbid_unknown(schema: Any) -> Any:
    """Return a schema in which each object that lists properties has no others, but for parts of an `allOf`."""
    if isinstance(schema, list):
        return [_forbid_unknown(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {name: part if name in ("example", "examples") else _forbid_unknown(part) for name, part in schema.items()}
    if "allOf" in schema:
        strict["allOf"] = schema["allOf"]  # each part knows only some of the properties
    lists = "allOf" in schema or isinstance(schema.get("properties"), dict)
    if lists and schema.get("type", "object") == "object" and "additionalProperties" not in schema:
        strict["unevaluatedProperties"] = False
    return strict


def check_schema(schema: dict[str, Any], value: Any, what: str) -> None:
    """Whether a JSON value is of this schema of the document's, without a property that the schema does not know."""
    whole = {**_forbid_unknown(schema), "components": _strict_components()}  # what its references point into
    validator = jsonschema.Draft202012Validator(whole, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    errors = [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in validator.iter_errors(value)]
    assert not errors, f"{what}: {errors}"


def check_answer(method: str, path: str, status: int, headers: dict[str, str], body: str) -> None:
    """Whether an answer (with its headers' names in lower case) is one that the document knows: status, media type and shape."""
    what = f"{method} {path} {status}"
    described = operation(method, path)["responses"].get(str(status))
    assert described is not None, f"{what} is not documented"
    content = described.get("content", {})
    if not content:
        assert not body, f"{what} is documented with no body"
        return
    media_type = headers["content-type"].partition(";")[0]
    assert media_type in content, f"{what}: {media_type} is not documented"
    if media_type == "application/json":
        check_schema(content[media_type]["schema"], json.loads(body), what)
