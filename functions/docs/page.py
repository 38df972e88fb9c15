"""GET /docs: the OpenAPI document to read and to try (Swagger UI, all in one page: nothing is fetched from elsewhere)."""

import functools
from pathlib import Path

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi import swagger_ui

from aideer.http import app, handler
from aideer.responses import documented

__all__ = ["handler"]


@functools.cache
def _page() -> bytes:
    """Made with the first call: it is large, and where functions share a process (local runs), most never show it."""
    assets = Path(swagger_ui.__file__).parent
    page: str = swagger_ui.generate_swagger_html(
        spec=Path(__file__).with_name("openapi.json").read_text(encoding="utf-8").replace("</", "<\\/"),
        swagger_js=(assets / "swagger-ui-bundle.min.js").read_text(encoding="utf-8"),
        swagger_css=(assets / "swagger-ui.min.css").read_text(encoding="utf-8"),
        swagger_base_url="",
        oauth2_config=None,
        persist_authorization=True,
    )
    # Powertools would serve the document at this very path.
    page = page.replace('currentUrl.pathname + "?format=json"', 'currentUrl.pathname.replace(/docs$/, "openapi.json")')
    page = page.replace("<title>Swagger UI</title>", "<title>AIDeer API</title>")
    return page.encode()  # one astral character would make the text four times as large


_described = documented("Read the documentation", public=True, content={"text/html": {"schema": {"type": "string"}}})


@app.get("/docs", compress=True, cache_control="max-age=300", **_described)
@app.get("/api/v1/docs", compress=True, cache_control="max-age=300", **_described)
def page():  # type: ignore[no-untyped-def] # no annotation: the body is HTML
    return Response(status_code=200, content_type="text/html; charset=utf-8", body=_page().decode())
