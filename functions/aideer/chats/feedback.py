"""Feedback: what users think of the answers in their chats.

The answer's message holds its feedback, so both vanish together, and a page of messages shows it without a further read. One
transaction changes the message, the chat's version, the counters of the statistics, and two records: an entry in the list of
administrators, newest first, and an entry by which the deletion of the chat finds the first one. The entries have no text of the
user.

Each change gives the feedback a new id, and requires the feedback that was read. So the counters are exact, whatever is repeated or
happens at once. feedback_list.py shows the list.
"""

from typing import Any

from aideer.billing import counters
from aideer.chats import chat_access, messages
from aideer.core import clock
from aideer.core.errors import Busy, Forbidden, NotFound, Unprocessable
from aideer.data import batch_write, changes, lookup
from aideer.data.base import new_id
from aideer.data.models import Chat, Message, Record, User
from aideer.data.retry import attempts, pause
from aideer.data.transactions import Refused, Transaction
from aideer.schemas.feedback import Feedback, FeedbackChange, FeedbackResponse
from aideer.security import rate_limits

LIST = "feedback"
"""The hash key of the entries that administrators see."""
_RATED = {"up": "rated_up", "down": "rated_down"}


def change(user: User, chat_id: str, n: int, wanted: FeedbackChange) -> FeedbackResponse:
    """Set the feedback on an answer of the user's own chat, or remove it if the rating is None.

    Raises NotFound, Forbidden (even for administrators), Unprocessable if the message is no answer of a model, TooManyRequests, and
    Busy.
    """
    _get_owned(user, chat_id)
    rate_limits.count("feedback", user.id)
    for _ in attempts():
        chat = _get_owned(user, chat_id)
        message = _get_answer(chat, n)
        if _is_same(message.feedback, wanted):
            return _respond(message.feedback, chat.version)
        new = _to_stored(chat, wanted)
        try:
            _commit(chat, message, new)
        except Refused:  # the chat or the feedback has changed
            pause()
            continue
        return _respond(new, chat.version + 1)
    raise Busy


def remove(user: User, chat_id: str, n: int) -> None:
    """Remove the feedback on an answer of the user's own chat. Raises NotFound, also if there is none, and as `change` does."""
    if _get_answer(_get_owned(user, chat_id), n).feedback is None:
        raise NotFound("feedback_not_found", "You have not rated this answer.")
    change(user, chat_id, n, FeedbackChange(rating=None, tags=[]))


def remove_of_chat(chat_id: str, deadline: float) -> bool:
    """Remove the entries of a deleted chat. Return False if `deadline` (of time.monotonic) comes first and some are left."""
    for raw in Record.query(_chat_key(chat_id), consistent_read=True, attributes_to_get=["pk", "sk"]).page_iter:
        listed = [{"pk": {"S": LIST}, "sk": item["sk"]} for item in raw["Items"]]
        if not (batch_write.delete(Record, listed, deadline) and batch_write.delete(Record, raw["Items"], deadline)):
            return False
    return True


def _get_owned(user: User, chat_id: str) -> Chat:
    refusal = Forbidden("forbidden", "Only the owner of a chat can rate its answers.")
    return chat_access.get_owned(user.id, chat_id, refusal)


def _get_answer(chat: Chat, n: int) -> Message:
    """Return an answer of the chat's shown messages. Raises NotFound, and Unprocessable if no model made it."""
    message, _ = messages.get_with_previous(chat.path, n)
    if message.role != "assistant" or message.model is None:
        raise Unprocessable("not_an_answer", "Only answers of a model can be rated.")
    return message


def _is_same(stored: dict[str, Any] | None, wanted: FeedbackChange) -> bool:
    if stored is None:
        return wanted.rating is None
    return (stored["rating"], stored["tags"], stored["comment"]) == (wanted.rating, wanted.tags, wanted.comment)


def _to_stored(chat: Chat, wanted: FeedbackChange) -> dict[str, Any] | None:
    if wanted.rating is None:
        return None
    return {
        "id": new_id(),
        "rating": wanted.rating,
        "tags": wanted.tags,
        "comment": wanted.comment,
        "preset_id": chat.preset_id,
        "update_time": clock.timestamp(),
    }


def _commit(chat: Chat, message: Message, new: dict[str, Any] | None) -> None:
    old = message.feedback
    transaction = Transaction()
    transaction.update(
        "message",
        Message(message.thread, message.n),
        [Message.feedback.remove() if new is None else Message.feedback.set(new)],
        Message.n.exists() & lookup.unchanged(Message.feedback, old),
    )
    # The version also refuses a change of messages that was made from the message as it was.
    unchanged = (Chat.owner_id == chat.owner_id) & Chat.deleted.does_not_exist() & (Chat.version == chat.version)
    transaction.update("chat", Chat(chat.id), [Chat.version.add(1)], unchanged)
    changes.mark_in(transaction, chat.owner_id, chat.id)
    if old:
        transaction.delete("listed before", Record(LIST, old["id"]))
        transaction.delete("entry before", Record(_chat_key(chat.id), old["id"]))
    if new:
        transaction.put("listed", Record(LIST, new["id"], data=_to_entry(chat, message, new)))
        transaction.put("entry", Record(_chat_key(chat.id), new["id"]))
    counters.count_ratings(transaction, message.model, _difference(old, new), clock.now())

    def happened() -> bool:
        found = lookup.find(Message, message.thread, int(message.n))
        stored = found.feedback if found else None
        return bool(stored["id"] == new["id"]) if stored and new else stored is None and new is None

    transaction.commit(proof=happened)


def _to_entry(chat: Chat, message: Message, new: dict[str, Any]) -> dict[str, Any]:
    """Return what the list of administrators filters by, and where the message is: a replaced thread keeps its end."""
    return {
        "chat_id": chat.id,
        "thread_end": message.thread.removeprefix(chat.thread),
        "n": int(message.n),
        "rating": new["rating"],
        "model": message.model,
        "preset_id": new["preset_id"],
    }


def _difference(old: dict[str, Any] | None, new: dict[str, Any] | None) -> dict[str, dict[str, int]]:
    """Return what to add to the counts, by preset."""
    found: dict[str, dict[str, int]] = {}
    for feedback, number in ((old, -1), (new, 1)):
        if feedback:
            counts = found.setdefault(feedback["preset_id"], {})
            name = _RATED[feedback["rating"]]
            counts[name] = counts.get(name, 0) + number
    return found


def _respond(stored: dict[str, Any] | None, version: int) -> FeedbackResponse:
    feedback = Feedback.model_validate(stored) if stored else None
    return FeedbackResponse(feedback=feedback, chat_version=int(version))


def _chat_key(chat_id: str) -> str:
    return f"feedback#{chat_id}"
