"""GET /openapi.json: the OpenAPI document, as `make docs` has generated it from all handlers."""

from pathlib import Path

from aideer.web.assets import Asset
from aideer.web.conditional_requests import IfNoneMatch
from aideer.web.http import app, handler
from aideer.web.openapi import ASSET_ANSWERS, describe

__all__ = ["handler"]

FOLDER = Path(__file__).parent
ASSET = Asset("openapi.json", lambda: ((FOLDER / "openapi.json").read_bytes(), {}), "application/json", FOLDER)

_content = {"application/json": {"schema": {"type": "object"}}}
_described = describe("Get this document", public=True, content=_content, **ASSET_ANSWERS)


@app.get("/openapi.json", **_described)
@app.get("/api/v1/openapi.json", **_described)
def openapi(if_none_match: IfNoneMatch = None):  # type: ignore[no-untyped-def] # no annotation: the body is JSON text already
    """Describe every call: types, limits, answers, examples. It is not there if the operator has switched it off."""
    return ASSET.respond(if_none_match)
