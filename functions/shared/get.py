"""GET /api/v1/shared/{token}: a chat, read by anybody who has a link to it."""

from typing import Annotated

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Path, Query

from aideer.chats import shared_chats
from aideer.chats.messages import Window
from aideer.schemas.shares import SharedChatResponse
from aideer.security.callers import Address
from aideer.web import pagination
from aideer.web.http import app, handler
from aideer.web.openapi import PAGE_HEADERS, describe

__all__ = ["handler"]

Token = Annotated[str, Path(min_length=1, max_length=200)]
Limit = Annotated[int, Query(ge=1, le=1000, description="How many messages.")]
N = Annotated[int | None, Query(ge=0, le=2**53, description="A message's n, which is not in the answer itself.")]


@app.get(
    "/api/v1/shared/<token>",
    **describe("Read a chat by a link", errors=(404, 429, 503), public=True, headers={"Link": PAGE_HEADERS["Link"]}),
)
def get(
    token: Token, address: Address, limit: Limit = 100, before: N = None, after: N = None
) -> Response[SharedChatResponse]:
    """Show a shared chat with its last messages, the last ones before `before`, or the first ones after `after`.

    Link leads to more messages in the same direction. A page may have fewer messages than `limit` although more follow. A link that
    is unknown, revoked or expired, or whose chat or owner was deleted, always gives the same 404.
    """
    chat, rest = shared_chats.read(token, Window(limit, before, after), address)
    headers: dict[str, str | list[str]] = {**shared_chats.HEADERS}
    if rest:
        headers["Link"] = pagination.next_link(before=rest.before, after=rest.after)
    return Response(status_code=200, content_type="application/json", body=chat, headers=headers)
