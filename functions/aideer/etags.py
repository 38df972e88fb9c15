"""A thing's version as its ETag, and the conditions that a caller sets with one (RFC 9110, section 13.1)."""

from typing import Annotated, Any, TypeVar

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Header

from aideer.http import app

T = TypeVar("T")

IfMatch = Annotated[
    str | None, Header(alias="If-Match", max_length=200, description="The ETag that this is a change of.")
]
IfNoneMatch = Annotated[
    str | None,
    Header(alias="If-None-Match", max_length=200, description="The ETag that the caller has: 304 if it is still it."),
]

ETAG_HEADER = {"ETag": {"description": "The version, quoted: for If-Match.", "schema": {"type": "string"}}}
"""For `documented(headers=...)`."""


class NotModified(Exception):
    """The caller has this already."""

    def __init__(self, version: int) -> None:
        self.version = version


def headers(version: int) -> dict[str, str | list[str]]:
    """The headers of an answer that has this version. What it shows depends on who asks, so nobody else may keep it."""
    return {"ETag": f'"{version}"', "Cache-Control": "private, no-cache"}


def tagged(body: T, version: int, **more: str) -> Response[T]:
    """An answer with this version, and what other headers it has."""
    return Response(status_code=200, content_type="application/json", body=body, headers={**headers(version), **more})


def names(header: str, version: int | str) -> bool:
    """Whether an If-Match or If-None-Match names this version; quotes and weakness do not matter here."""
    tags = [tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")]
    return "*" in tags or str(version) in tags


@app.exception_handler(NotModified)
def _not_modified(unchanged: NotModified) -> Response[Any]:
    return Response(status_code=304, headers=headers(unchanged.version), body="")
