"""GET /docs: the OpenAPI document to read and to try (Swagger UI).

The page has all its parts in it and fetches nothing from elsewhere.
"""

import base64
import hashlib
import re
from pathlib import Path

from aws_lambda_powertools.event_handler.openapi import swagger_ui

from aideer.web.assets import Asset
from aideer.web.conditional_requests import IfNoneMatch
from aideer.web.http import app, handler
from aideer.web.openapi import ASSET_ANSWERS, describe

__all__ = ["handler"]


_SCRIPT = re.compile("<script>(.*?)</script>", re.DOTALL)


def _make() -> tuple[bytes, dict[str, str | list[str]]]:
    """Return the page, and its headers."""
    page = _page()
    return page.encode(), {"Content-Security-Policy": _policy(page), "Referrer-Policy": "no-referrer"}


def _page() -> str:
    assets = Path(swagger_ui.__file__).parent
    page: str = swagger_ui.generate_swagger_html(
        spec=Path(__file__).with_name("openapi.json").read_text(encoding="utf-8").replace("</", "<\\/"),
        swagger_js=(assets / "swagger-ui-bundle.min.js").read_text(encoding="utf-8"),
        swagger_css=(assets / "swagger-ui.min.css").read_text(encoding="utf-8"),
        swagger_base_url="",
        oauth2_config=None,
        persist_authorization=False,  # localStorage would keep the token for the next person at this browser
    )
    # Powertools would serve the document at the path of the page itself.
    page = page.replace('currentUrl.pathname + "?format=json"', 'currentUrl.pathname.replace(/docs$/, "openapi.json")')
    page = page.replace("<title>Swagger UI</title>", "<title>AIDeer API</title>")
    # An earlier version of this page kept the token in localStorage.
    return page.replace("var ui = ", 'localStorage.removeItem("authorized");\n  var ui = ')


def _policy(page: str) -> str:
    """Return the Content-Security-Policy: the page's own scripts by their hashes, calls to the same host, and no frames."""
    scripts = _SCRIPT.findall(page)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    return "; ".join(
        [
            "default-src 'none'",
            "script-src " + " ".join(f"'sha256-{digest}'" for digest in hashes),
            "style-src 'unsafe-inline'",  # Swagger UI sets styles of elements
            "img-src 'self' data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


ASSET = Asset("page.html", _make, "text/html; charset=utf-8", Path(__file__).parent)

_content = {"text/html": {"schema": {"type": "string"}}}
_described = describe("Read the documentation", public=True, content=_content, **ASSET_ANSWERS)


@app.get("/docs", **_described)
@app.get("/api/v1/docs", **_described)
def page(if_none_match: IfNoneMatch = None):  # type: ignore[no-untyped-def] # no annotation: the body is HTML
    """Show this document as a page on which you can try each call. It is not there if the operator has switched it off."""
    return ASSET.respond(if_none_match)
