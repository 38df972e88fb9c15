"""GET /openapi.json: the OpenAPI document, as `make docs` has generated it from all handlers."""

from pathlib import Path

from aws_lambda_powertools.event_handler import Response

from aideer.http import app, handler
from aideer.responses import documented

__all__ = ["handler"]

_document = Path(__file__).with_name("openapi.json").read_text(encoding="utf-8")
_described = documented("Get this document", public=True, content={"application/json": {"schema": {"type": "object"}}})


@app.get("/openapi.json", compress=True, cache_control="max-age=300", **_described)
@app.get("/api/v1/openapi.json", compress=True, cache_control="max-age=300", **_described)
def openapi():  # type: ignore[no-untyped-def] # no annotation: the body is JSON text already
    return Response(status_code=200, content_type="application/json", body=_document)
