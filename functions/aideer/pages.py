"""Pages of lists: `limit`, and an opaque `cursor` that carries on where the last page ended, or a small `offset`.

A cursor names the list that it is from and the key of the last item, so one from another list is refused; it holds nothing
that its reader could not see anyway, and the partition is never taken from it.
"""

import base64
import binascii
import json
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query

from aideer.errors import Unprocessable
from aideer.http import app

T = TypeVar("T")

Limit = Annotated[int, Query(ge=1, le=100, description="How many.")]
Cursor = Annotated[str | None, Query(max_length=2000, description="From X-Next-Cursor of the page before.")]
Offset = Annotated[int, Query(ge=0, le=1000, description="How many to skip; a cursor is better.")]


def encode(list_name: str, key: list[Any]) -> str:
    """A cursor of this list after the item with this key (JSON values)."""
    text = json.dumps([list_name, *key], ensure_ascii=False, separators=(",", ":"))  # short: Cursor has a bound
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(list_name: str, cursor: str, types: tuple[type, ...]) -> list[Any]:
    """The key in a cursor; its values have these types. Raises Unprocessable where it is not from this list."""
    key: list[Any] = []
    try:
        name, *key = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        fits = (
            name == list_name and len(key) == len(types) and all(type(k) is t for k, t in zip(key, types, strict=True))
        )
        json.dumps(key, ensure_ascii=False).encode()  # half a surrogate pair is no key
    except (ValueError, TypeError, RecursionError, binascii.Error):
        fits = False
    if not fits:
        raise Unprocessable("invalid_cursor", "This cursor is not from this list.")
    return key


def answer(items: list[T], next_cursor: str | None) -> Response[list[T]]:
    """A page as a bare array, with Link (RFC 8288) and X-Next-Cursor where there is more."""
    return Response(status_code=200, content_type="application/json", body=items, headers=headers(next_cursor))


def headers(next_cursor: str | None) -> dict[str, str | list[str]]:
    """Link and X-Next-Cursor of a page that is no bare array."""
    if not next_cursor:
        return {}
    return {"X-Next-Cursor": next_cursor, "Link": link(cursor=next_cursor, offset=None)}


def link(**changes: object) -> str:
    """A Link (RFC 8288) to what comes next: this request with these query parameters changed, those that are None left out."""
    event = app.current_event
    query = {**event.query_string_parameters, **changes}
    return f'<{event.path}?{urlencode({k: v for k, v in query.items() if v is not None})}>; rel="next"'
