"""POST /chats: open a chat on a preset, with the first messages if there are any."""

from aws_lambda_powertools.event_handler import Response

from aideer import chats
from aideer.auth import Member
from aideer.contract.chats import Chat, NewChat
from aideer.etags import ETAG_HEADER, tagged
from aideer.http import app, handler
from aideer.responses import documented

__all__ = ["handler"]


@app.post("/api/v1/chats", **documented("Open a chat", errors=(400, 403, 413), headers=ETAG_HEADER))
def create(user: Member, new: NewChat) -> Response[Chat]:
    """Open a chat. It keeps this version of the preset, even if the preset is changed or deleted later."""
    chat, messages = chats.create(user, new)
    return tagged(Chat.of(chat, messages), chat.version)
