"""A chat as a file to keep: JSON, or Markdown that no content can break out of.

A file holds what a page of messages may, and says where the next one begins. Whoever may manage the chat gets its hidden messages
too; the preset's are not in the chat, so they are in no file.
"""

import json
import re
import unicodedata
from typing import Literal
from urllib.parse import quote

from aideer import auth, chats, messages, trail
from aideer.contract import chats as contract
from aideer.errors import Forbidden
from aideer.messages import Window
from aideer.models import Chat, Message, User

Format = Literal["json", "markdown"]

MESSAGES = 10_000
"""Of one file, where they are so short that this many fit."""
_ENDINGS = {"json": "json", "markdown": "md"}
_FORBIDDEN = set('<>:"/\\|?*')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def export(user: User, chat_id: str, wanted: Format, after: int) -> tuple[str, dict[str, str | list[str]], int | None]:
    """A file of one's own chat, from behind the message `after` on: its text, its name as headers, and `after` of the next file.

    Raises NotFound and Forbidden.
    """
    chat = chats.readable(user, chat_id)
    if not auth.may_manage(user, chat.owner_id):
        raise Forbidden("forbidden", "Only its owner exports a chat.")
    if trail.concerns(user, chat.owner_id):
        trail.record(user, "chat.export", chat.owner_id, chat.id)
    page = messages.page(chat.thread, Window(MESSAGES, after=after), hidden=True)
    rest = page.rest.after if page.rest else None
    if wanted == "json":
        text = contract.Chat.of(chat, page.messages).model_dump_json()
    else:
        text, rest = _markdown(chat, page.messages, rest)
    name = f"{chat.title} (after {after})" if after else chat.title
    return text, {"Content-Disposition": disposition(name, _ENDINGS[wanted])}, rest


def disposition(name: str, ending: str) -> str:
    """Content-Disposition for a file of this name (RFC 6266), which may hold whatever a user wrote: no path, no trick, no header.

    `filename*` (RFC 8187) is what browsers take; `filename` is for the rest, in ASCII.
    """
    clean = "".join(" " if c in _FORBIDDEN or unicodedata.category(c)[0] in "CZ" else c for c in name)
    clean = " ".join(clean.split()).strip(". ") or "chat"
    if _RESERVED.match(clean):
        clean = f"_{clean}"
    plain = clean.encode("ascii", "replace").decode().replace("?", "_")
    return f"attachment; filename=\"{plain}.{ending}\"; filename*=UTF-8''{quote(f'{clean}.{ending}', safe='')}"


def _markdown(chat: Chat, thread: list[Message], rest: int | None) -> tuple[str, int | None]:
    """A chat to read, and where it goes on: before the page's end, where fences make it longer than a page may be."""
    parts = [f"# {_escaped(chat.title)}\n\nChat {chat.id}, begun {chat.create_time}.\n"]
    size, last = 0, None
    for message in thread:
        part = _section(message)
        size += len(json.dumps(part, ensure_ascii=False).encode())  # as it leaves, in Lambda's JSON
        if last is not None and size > messages.PAGE_BYTES:
            return "\n".join(parts), last
        parts.append(part)
        last = message.n
    return "\n".join(parts), rest


def _section(message: Message) -> str:
    about = [f"**{message.role}**", message.create_time]
    about += [_escaped(said) for said in (message.model, message.finish_reason) if said]
    about += ["image"] * (message.type == "image") + ["hidden"] * (not message.visibility)
    parts = [f"## {message.n}\n\n{', '.join(about)}\n"]
    if message.reasoning:
        parts.append(f"Reasoning:\n\n{_fenced(message.reasoning)}")
    if message.content:
        parts.append(_fenced(message.content))
    return "\n".join(parts)


def _fenced(text: str) -> str:
    """Text in a fence that is longer than any in it: nothing else ends a fence (CommonMark, section 4.5)."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}\n"


def _escaped(text: str) -> str:
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)
