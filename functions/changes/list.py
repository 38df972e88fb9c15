"""GET /changes: what changed in one's own chats."""

from typing import Annotated

from aws_lambda_powertools.event_handler.openapi.params import Query

from aideer.chats import change_feed
from aideer.schemas.chats import ChangeResponse, ChangesResponse
from aideer.security.readers import Reader
from aideer.web import pagination
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]

Since = Annotated[str | None, Query(max_length=2000, description="`next` of the answer before. Without it, all chats.")]


@app.get("/api/v1/changes", **describe("List what changed in one's own chats", errors=(410, 429)))
def list_(user: Reader, since: Since = None, limit: pagination.Limit = 50) -> ChangesResponse:
    """List the chats that you, an answer or an administrator created, changed or deleted since a cursor.

    To keep a copy of your chats, call it without `since`, store the chats and `next`, and call it with `since` as long as `more` is
    true. You then have every chat, and later calls bring each change. No change is left out, but one may come twice. A chat that
    changed several times comes once, as it is now. If its `version` is not the one that you have, read its messages again. Remove a
    chat that comes as `deleted`. Shared chats of others are not in it. `next` lasts 90 days. Then, and after data was restored, the
    answer is 410 `resync`: drop the copy, and begin without `since`.
    """
    page = change_feed.read(user, since, limit)
    shown = [ChangeResponse.of(change.chat_id, change.chat) for change in page.changes]
    return ChangesResponse(changes=shown, next=page.next, more=page.more)
