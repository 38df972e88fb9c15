"""Whether answers are what the OpenAPI document says of their operation."""

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


def check_schema(schema: dict[str, Any], value: Any, what: str) -> None:
    """Whether a JSON value is of this schema of the document's."""
    whole = {**schema, "components": document()["components"]}  # what its references point into
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
