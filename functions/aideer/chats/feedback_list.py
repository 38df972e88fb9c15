"""The feedback of all users, as administrators see it: newest first, filtered, page by page.

An entry of the list names a message and has no text. A page reads the chats and messages of its entries, and shows the feedback
that these messages have now. So feedback that has vanished with its message is not shown. A page makes at most READS queries, so
its cost is bounded, however many entries there are.
"""

from itertools import islice
from typing import Any, NamedTuple

from aideer.chats.feedback import LIST
from aideer.core.errors import Unprocessable
from aideer.data import lookup
from aideer.data.models import Chat, Message, Record, User
from aideer.schemas.feedback import RatedAnswerResponse, Rating
from aideer.security import audit_trail

READS = 8
"""The most queries for one page."""
_FILTERED = 250
"""How many entries one query reads, if there is a filter."""


class Page(NamedTuple):
    """Rated answers, the newest first. `more` is the id of the last entry that was read, if there may be more."""

    answers: list[RatedAnswerResponse]
    more: str | None


def read_page(
    admin: User, rating: Rating | None, model: str | None, preset_id: str | None, limit: int, before: str | None
) -> Page:
    """Return at most `limit` rated answers that match every given filter, below the id `before`, and record it in the audit trail.

    A page may be shorter although there are more. Raises Unprocessable if no entry can have the id `before`.
    """
    if before is not None and not lookup.is_possible(LIST, before):
        raise Unprocessable("invalid_cursor", "This cursor is not from this list.")
    audit_trail.record(admin, "feedback.list", about=preset_id)
    wanted = {name: value for name, value in (("rating", rating), ("model", model), ("preset_id", preset_id)) if value}
    found, more = _read_entries(wanted, limit, before)
    return Page(_read_answers(found), more)


def _read_entries(wanted: dict[str, str], limit: int, before: str | None) -> tuple[list[Record], str | None]:
    pages = Record.query(
        LIST,
        Record.sk < before if before else None,
        consistent_read=True,
        scan_index_forward=False,
        page_size=_FILTERED if wanted else limit + 1,
    ).page_iter
    found: list[Record] = []
    for raw in islice(pages, READS):
        for item in raw["Items"]:
            if len(found) == limit:
                return found, str(found[-1].sk)
            entry = Record.from_raw_data(item)
            if all(entry.data[name] == value for name, value in wanted.items()):
                found.append(entry)
    last = pages.last_evaluated_key
    return found, str(last["sk"]["S"]) if last else None


def _read_answers(entries: list[Record]) -> list[RatedAnswerResponse]:
    """Return the answers of these entries that have this feedback now."""
    ids = list({entry.data["chat_id"] for entry in entries})
    chats = {chat.id: chat for chat in Chat.batch_get(ids, consistent_read=True)} if ids else {}
    places = {entry.sk: place for entry in entries if (place := _find_place(entry, chats))}
    found: dict[Any, Message] = {}
    if places:
        names = ["thread", "n", "model", "feedback"]
        for message in Message.batch_get(list(places.values()), consistent_read=True, attributes_to_get=names):
            found[message.thread, message.n] = message
    answers = []
    for entry in entries:
        rated = found.get(places.get(entry.sk))
        if rated and rated.feedback and rated.feedback["id"] == entry.sk:
            answers.append(_to_response(entry, chats[entry.data["chat_id"]], rated))
    return answers


def _find_place(entry: Record, chats: dict[str, Chat]) -> tuple[str, int] | None:
    """Return the key of an entry's message in the chat's current generation, or None if the chat was deleted."""
    chat = chats.get(entry.data["chat_id"])
    if chat is None or chat.deleted:
        return None
    return f"{chat.thread}{entry.data['thread_end']}", entry.data["n"]


def _to_response(entry: Record, chat: Chat, message: Message) -> RatedAnswerResponse:
    stored = message.feedback
    return RatedAnswerResponse(
        id=stored["id"],
        user_id=chat.owner_id,
        chat_id=chat.id,
        n=message.n,
        branch=entry.data["thread_end"].removeprefix("#") or None,
        rating=stored["rating"],
        tags=stored["tags"],
        comment=stored["comment"],
        model=message.model,
        preset_id=stored["preset_id"],
        update_time=stored["update_time"],
    )
