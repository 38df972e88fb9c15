"""Pagination of lists: `limit`, and either an opaque `cursor` that continues after the last page, or a small `offset`.

A cursor names its list and the key of the last item, so a cursor from another list is refused. It has no data that its reader
could not see anyway. The partition key never comes from a cursor.
"""

import base64
import binascii
import json
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query

from aideer.core.errors import Unprocessable
from aideer.web.http import app

T = TypeVar("T")

Limit = Annotated[int, Query(ge=1, le=100, description="How many.")]
Cursor = Annotated[str | None, Query(max_length=2000, description="From X-Next-Cursor of the page before.")]
Offset = Annotated[int, Query(ge=0, le=1000, description="How many to skip; a cursor is better.")]


def encode(list_name: str, key: list[Any]) -> str:
    """Return a cursor of this list that continues after the item with this key (JSON values)."""
    text = json.dumps([list_name, *key], ensure_ascii=False, separators=(",", ":"))  # short: Cursor has a limit
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(list_name: str, cursor: str, types: tuple[type, ...]) -> list[Any]:
    """Return the key in a cursor, with values of these types. Raises Unprocessable if the cursor is not from this list."""
    key: list[Any] = []
    try:
        name, *key = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        fits = (
            name == list_name and len(key) == len(types) and all(type(k) is t for k, t in zip(key, types, strict=True))
        )
        json.dumps(key, ensure_ascii=False).encode()  # half a surrogate pair is not a valid key
    except (ValueError, TypeError, RecursionError, binascii.Error):
        fits = False
    if not fits:
        raise Unprocessable("invalid_cursor", "This cursor is not from this list.")
    return key


def respond(items: list[T], next_cursor: str | None) -> Response[list[T]]:
    """Return a page as a bare array, with Link (RFC 8288) and X-Next-Cursor if more items follow."""
    return Response(status_code=200, content_type="application/json", body=items, headers=page_headers(next_cursor))


def page_headers(next_cursor: str | None) -> dict[str, str | list[str]]:
    """Return the headers Link and X-Next-Cursor of a page, or no headers for the last page."""
    if not next_cursor:
        return {}
    return {"X-Next-Cursor": next_cursor, "Link": next_link(cursor=next_cursor, offset=None)}


def next_link(**changes: object) -> str:
    """Return a Link (RFC 8288) to the next page: this request with these query parameters changed, or left out if None."""
    event = app.current_event
    query = {**event.query_string_parameters, **changes}
    return f'<{event.path}?{urlencode({k: v for k, v in query.items() if v is not None})}>; rel="next"'
