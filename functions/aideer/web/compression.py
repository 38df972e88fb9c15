"""Responses with large constant texts, compressed for clients that accept it (RFC 9110, section 12.5.3)."""

import base64
import functools
import gzip
from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.event_handler import Response

from aideer.web.http import app


def respond(
    make: Callable[[], bytes], content_type: str, headers: dict[str, str | list[str]] | None = None
) -> Response[Any]:
    """Return a response with the constant text of `make`, in UTF-8.

    Any cache may keep it for 5 minutes, separately for each Accept-Encoding.
    """
    usual: dict[str, str | list[str]] = {
        "Cache-Control": "public, max-age=300",
        "Vary": "Accept-Encoding",
        **(headers or {}),
    }
    if not accepts_gzip(app.current_event.headers.get("accept-encoding")):
        return Response(status_code=200, content_type=content_type, headers=usual, body=make().decode())
    usual["Content-Encoding"] = "gzip"
    response = Response(status_code=200, content_type=content_type, headers=usual, body=_compress(make))
    response.base64_encoded = True  # it is encoded already: Powertools would write bytes of this type as JSON
    return response


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Return whether the client accepts gzip, with at least the weight of no compression.

    A client that refuses everything (`*;q=0`) gets the plain text: section 12.4.1 lets a server disregard the header.
    """
    weights: dict[str, float] = {}
    for part in (accept_encoding or "").split(","):
        coding, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weights.setdefault("gzip" if coding == "x-gzip" else coding, _weight(parameters))
    gzipped = weights.get("gzip", weights.get("*", 0.0))
    return gzipped > 0 and gzipped >= weights.get("identity", 0.0)


def _weight(parameters: list[str]) -> float:
    """Return the `q` among a coding's parameters, or 1 without one. A `q` that is no number from 0 to 1 counts as a refusal."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                weight = float(value)
            except ValueError:
                return 0.0
            return weight if 0 <= weight <= 1 else 0.0
    return 1.0


@functools.cache
def _compress(make: Callable[[], bytes]) -> str:
    return base64.b64encode(gzip.compress(make(), mtime=0)).decode()
