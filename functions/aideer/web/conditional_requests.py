"""Conditional requests of the HTTP API: the headers that set a condition, and the responses with an ETag (etags.py)."""

from typing import Annotated, Any, TypeVar

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Header

from aideer.web.etags import NotModified, tag_headers
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


def respond(body: T, tag: int | str, **more: str) -> Response[T]:
    """Return a response with this tag. `more` are its other headers."""
    return Response(status_code=200, content_type="application/json", body=body, headers={**tag_headers(tag), **more})


@app.exception_handler(NotModified)
def _not_modified(unchanged: NotModified) -> Response[Any]:
    return Response(status_code=304, headers=tag_headers(unchanged.tag), body="")
