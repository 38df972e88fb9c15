"""GET /openapi.json: the OpenAPI document, as `make docs` has generated it from all handlers."""

import functools
from pathlib import Path

from aideer.web import compression
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]

_described = describe("Get this document", public=True, content={"application/json": {"schema": {"type": "object"}}})


@functools.cache
def _read() -> bytes:
    return Path(__file__).with_name("openapi.json").read_bytes()


@app.get("/openapi.json", **_described)
@app.get("/api/v1/openapi.json", **_described)
def openapi():  # type: ignore[no-untyped-def] # no annotation: the body is JSON text already
    """Describe every call: types, limits, answers, examples."""
    return compression.respond(_read, "application/json")
