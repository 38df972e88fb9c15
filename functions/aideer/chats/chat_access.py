"""Reading a chat: who may read or change it, and what they are shown.

It is apart from chats.py, so that a call that reads loads nothing of what changes chats.
"""

from aideer.chats import messages
from aideer.chats.messages import Page, Window
from aideer.core.errors import Forbidden, NotFound
from aideer.data import lookup
from aideer.data.models import Chat, User
from aideer.security import audit_trail, auth, budgets
from aideer.web import etags


def read(user: User, chat_id: str, window: Window, if_none_match: str | None = None) -> tuple[Chat, Page]:
    """Return a chat and a window of its messages.

    A user that may manage the chat gets all messages. Other readers of a shared chat get the visible ones only. Raises NotFound,
    Forbidden for another user's private chat, and NotModified if `if_none_match` names the chat as this user is shown it.
    """
    chat = get_readable(user, chat_id)
    etags.require_modified(if_none_match, view_tag(user, chat))
    own = auth.may_manage(user, chat.owner_id)
    record_reading(user, chat)
    page = messages.read_page(chat.path, window, hidden=own)
    if not own:
        budgets.note(user.id, page.unsent)
    return chat, page


def record_reading(user: User, chat: Chat) -> None:
    """Record in the audit trail that an administrator reads another user's chat."""
    if audit_trail.must_record(user, chat.owner_id):
        audit_trail.record(user, "chat.read", chat.owner_id, chat.id)


def view_tag(user: User, chat: Chat) -> int | str:
    """Return the chat's tag for this user: the version, or another tag if hidden messages are left out."""
    version = int(chat.version)
    return version if auth.may_manage(user, chat.owner_id) else f"{version}-shared"


def get_readable(user: User, chat_id: str) -> Chat:
    """Return the chat if this user may read it. Raises NotFound, and Forbidden for another user's private chat."""
    chat = get(chat_id)
    if not auth.may_manage(user, chat.owner_id) and chat.visibility != "shared":
        raise Forbidden("forbidden", "This chat is private.")
    return chat


def show_branch(chat: Chat, branch: str) -> None:
    """Let the chat show another branch to its end. This changes only what was read. Raises NotFound."""
    tree = chat.tree
    if not tree.show(branch):
        raise branch_not_found()
    for name, value in tree.to_fields().items():
        setattr(chat, name, value)


def branch_not_found() -> NotFound:
    """Return the error for a branch that the chat does not have."""
    return NotFound("branch_not_found", "This chat has no such branch.")


def get_manageable(user: User, chat_id: str) -> Chat:
    """Return the chat, if the user may change it. Raises NotFound and Forbidden."""
    chat = get(chat_id)
    if not auth.may_manage(user, chat.owner_id):
        raise Forbidden("forbidden", "This chat is not yours.")
    return chat


def get_owned(user_id: str, chat_id: str, refusal: Forbidden) -> Chat:
    """Return the user's own chat. Raises NotFound, and `refusal` for everyone else, administrators too."""
    chat = get(chat_id)
    if chat.owner_id != user_id:
        raise refusal
    return chat


def exists(chat_id: str) -> bool:
    """Return whether the chat or its tombstone is stored."""
    return lookup.find(Chat, chat_id) is not None


def get(chat_id: str) -> Chat:
    """Return the chat. Raises NotFound if there is none, or if it was deleted."""
    chat = lookup.find(Chat, chat_id)
    if chat is None or chat.deleted:
        raise not_found()
    return chat


def not_found() -> NotFound:
    """Return the error for a chat that does not exist or was deleted."""
    return NotFound("chat_not_found", "There is no such chat.")
