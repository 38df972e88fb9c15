"""GET /chats/{id}: a chat with a window of its messages."""

from typing import Annotated

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query

from aideer.chats import chat_access
from aideer.chats.messages import Window
from aideer.schemas.chats import ChatResponse
from aideer.schemas.paths import ChatId
from aideer.security import auth
from aideer.security.readers import Reader
from aideer.web import pagination
from aideer.web.conditional_requests import ETAG_HEADER, IfNoneMatch, respond
from aideer.web.http import app, handler
from aideer.web.openapi import NOT_MODIFIED, PAGE_HEADERS, describe

__all__ = ["handler"]

Limit = Annotated[int, Query(ge=1, le=1000, description="How many messages.")]
N = Annotated[int | None, Query(ge=0, le=2**53, description="A message's n, which is not in the answer itself.")]


@app.get(
    "/api/v1/chats/<id>",
    **describe(
        "Get a chat",
        errors=(403, 404, 429),
        headers={**ETAG_HEADER, "Link": PAGE_HEADERS["Link"]},
        also=NOT_MODIFIED,
    ),
)
def get(
    user: Reader,
    id: ChatId,
    limit: Limit = 100,
    before: N = None,
    after: N = None,
    if_none_match: IfNoneMatch = None,
) -> Response[ChatResponse]:
    """Show a chat with its last messages, the last ones before `before`, or the first ones after `after`.

    Link leads to more messages in the same direction. An answer holds at most 4 MB, so it may have fewer messages than `limit`.
    Shared chats of other users come without hidden messages.
    """
    chat, page = chat_access.read(user, id, Window(limit, before, after), if_none_match)
    link = {"Link": pagination.next_link(before=page.rest.before, after=page.rest.after)} if page.rest else {}
    shown = ChatResponse.of(chat, page.messages, page.previous, shared=not auth.may_manage(user, chat.owner_id))
    return respond(shown, chat_access.view_tag(user, chat), **link)
