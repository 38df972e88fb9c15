"""Titles that the model makes after the first answer of a chat with `auto_title`.

The transaction that closes the answer writes a job (credits.py), so no crash loses it. Its worker accepts the title's task as if
the user had asked for it. It does so at most once for a chat, whatever happens to the worker and to its messages.

No client waits for such a title. So no error says why there is none: too few credits, a limit, a retired model. The next answer
then leads to another attempt.
"""

from typing import Any

from aideer.chats import chat_titles
from aideer.core.errors import AideerError, Busy
from aideer.core.logs import logger
from aideer.data import lookup
from aideer.data.models import Chat, User
from aideer.security.auth import Bearer
from aideer.tasks import admission


def make(data: dict[str, Any], _: float) -> bool:
    """Work on a job: accept the title's task, if the chat still waits for it. Return whether the job is done."""
    chat = lookup.find(Chat, data["chat_id"])
    if chat is None or chat.deleted or not chat_titles.awaits_title(chat):
        return True
    user = lookup.find(User, str(chat.owner_id))
    if user is None or user.deleted:
        return True
    try:
        admission.entitle(Bearer.of(user), str(data["chat_id"]))
    except Busy:
        return False
    except AideerError as error:
        logger.info("untitled", extra={"chat_id": data["chat_id"], "code": error.code})
    return True
