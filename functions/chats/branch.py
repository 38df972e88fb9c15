"""PUT /chats/{id}/branch: show another branch of a chat."""

from aws_lambda_powertools.event_handler import Response

from aideer.chats import edits
from aideer.schemas.chats import BranchChoice, ChatResponse
from aideer.schemas.paths import ChatId
from aideer.security.readers import Reader
from aideer.web.conditional_requests import ETAG_HEADER, IfMatch, respond
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.put(
    "/api/v1/chats/<id>/branch",
    **describe("Show another branch", errors=(403, 404, 409, 412, 428, 429), headers=ETAG_HEADER),
)
def branch(user: Reader, id: ChatId, choice: BranchChoice, if_match: IfMatch = None) -> Response[ChatResponse]:
    """Show a branch to its end, on every device. If-Match is required, and the response is the chat with its last messages.

    Prompts, copies, exports and readers of a shared chat see the shown branch only. While a task is answering, this is 409.
    """
    chat, page = edits.switch(user, id, choice.branch, if_match)
    return respond(ChatResponse.of(chat, page.messages, page.previous), int(chat.version))
