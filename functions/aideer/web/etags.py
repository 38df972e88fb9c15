"""ETags of responses, and the conditions that a caller sets with them (RFC 9110, section 13.1).

A tag names one version as one kind of reader sees it. So a tag from one reader never confirms the cached copy of another kind of
reader. If the reader may change the resource, the tag is the version alone. If-Match takes only this tag.
"""

from typing import Annotated, Any, TypeVar

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Header

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


class NotModified(Exception):
    """The caller has the current version already. The response is 304."""

    def __init__(self, tag: int | str) -> None:
        self.tag = tag


def tag_headers(tag: int | str) -> dict[str, str | list[str]]:
    """Return the headers of a response with this tag. The response depends on the caller, so no shared cache may keep it."""
    return {"ETag": f'"{tag}"', "Cache-Control": "private, no-cache", "Vary": "Authorization"}


def respond(body: T, tag: int | str, **more: str) -> Response[T]:
    """Return a response with this tag. `more` are its other headers."""
    return Response(status_code=200, content_type="application/json", body=body, headers={**tag_headers(tag), **more})


def matches(header: str, tag: int | str) -> bool:
    """Return whether an If-Match or If-None-Match header names this tag. Quotes and weakness do not matter here."""
    named = [name.strip().removeprefix("W/").strip('"') for name in header.split(",")]
    return "*" in named or str(tag) in named


@app.exception_handler(NotModified)
def _not_modified(unchanged: NotModified) -> Response[Any]:
    return Response(status_code=304, headers=tag_headers(unchanged.tag), body="")
