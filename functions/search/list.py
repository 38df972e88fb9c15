"""GET /search: hits in one's own chats."""

from typing import Annotated

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query

from aideer.chats import chat_search
from aideer.schemas.search import Scope, SearchHitResponse
from aideer.security.readers import Reader
from aideer.web import pagination
from aideer.web.http import app, handler
from aideer.web.openapi import PAGE_HEADERS, describe

__all__ = ["handler"]

Words = Annotated[str, Query(min_length=1, max_length=100, description="Words; a hit has all of them, in any case.")]
Within = Annotated[Scope, Query(description="Titles and messages, or titles only, which is faster.")]
Limit = Annotated[int, Query(ge=1, le=50, description="How many.")]


@app.get("/api/v1/search", **describe("Search one's own chats", errors=(429,), headers=PAGE_HEADERS))
def list_(
    user: Reader, q: Words, scope: Within = "all", limit: Limit = 20, cursor: pagination.Cursor = None
) -> Response[list[SearchHitResponse]]:
    """Search in the titles and the visible texts of your own chats, the chat that changed last first.

    Documents are not searched. Words are parts of the text, so Chinese needs no spaces. A page reads a limited number of chats. It
    may be shorter than `limit`, or empty, even if more hits follow, so check X-Next-Cursor.
    """
    hits, next_cursor = chat_search.search(user, q, scope, limit, cursor)
    return pagination.respond(hits, next_cursor)
