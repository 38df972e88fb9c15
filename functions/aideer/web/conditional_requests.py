"""Conditional requests of the HTTP API: the headers that set a condition, and the responses with an ETag (etags.py)."""

from typing import Annotated, Any, TypeVar

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Header

from aideer.web import compression
from aideer.web.etags import NotModified, public_headers, require_modified, tag_headers
from aideer.web.http import app

T = TypeVar("T")

IfMatch = Annotated[
    str | None, Header(alias="If-Match", max_length=200, description="The ETag that this is a change of.")
]
IfNoneMatch = Annotated[
    str | None,
    Header(alias="If-None-Match", max_length=200, description="The ETag that the caller has: 304 if it is still it."),
]

ETAG_HEADER = {
    "ETag": {
        "description": "Quoted: for If-Match the version; of another's shared chat one that only If-None-Match takes.",
        "schema": {"type": "string"},
    }
}
"""The argument of `documented(headers=...)`."""
SETTINGS_HEADER = {"ETag": {"description": "Quoted: the version, for If-Match.", "schema": {"type": "string"}}}


def respond(body: T, tag: int | str, **more: str) -> Response[T]:
    """Return a response with this tag. `more` are its other headers."""
    return Response(status_code=200, content_type="application/json", body=body, headers={**tag_headers(tag), **more})


def respond_publicly(body: T, tag: str, seconds: int, if_none_match: str | None) -> Response[T]:
    """Return a response that is the same for all callers, and that caches may keep for so many seconds.

    It is compressed if the caller accepts gzip. The two codings have two tags, because a strong tag names the bytes. Raises
    NotModified if the caller has this response.
    """
    accepted = app.current_event.headers.get("accept-encoding") or ""
    packs = "gzip" in accepted and compression.accepts_gzip(accepted)  # Powertools compresses only for the word gzip
    served = f"{tag}-gzip" if packs else tag
    headers = public_headers(served, seconds) | {"Vary": "Origin, Accept-Encoding"}
    require_modified(if_none_match, served, headers)
    return Response(200, "application/json", body, headers, compress=packs)


@app.exception_handler(NotModified)
def _not_modified(unchanged: NotModified) -> Response[Any]:
    return Response(status_code=304, headers=unchanged.headers, body="")
