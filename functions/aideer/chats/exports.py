"""A chat as a file to keep: JSON, or Markdown whose structure no content can break.

A file shows one branch, the chat's shown one or another. It holds as much as a page of messages may, and the response says where
the next file begins. A user that may manage the chat
also gets its hidden messages. The preset's messages are not in the chat, so no file has them.
"""

import json
import re
import unicodedata
from typing import Literal
from urllib.parse import quote

from aideer.chats import chat_access, messages
from aideer.chats.messages import Window
from aideer.core.errors import Forbidden
from aideer.data.models import Chat, Message, User
from aideer.schemas import chats as schemas
from aideer.security import audit_trail, auth

Format = Literal["json", "markdown"]

MESSAGES = 10_000
"""The most messages in one file, if they are so short that this many fit."""
_ENDINGS = {"json": "json", "markdown": "md"}
_FORBIDDEN = set('<>:"/\\|?*')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def export(
    user: User, chat_id: str, wanted: Format, after: int, branch: str | None = None
) -> tuple[str, dict[str, str | list[str]], int | None]:
    """Return a file of a chat that the user may manage, beginning after the message `after`, as if the chat showed `branch`.

    The result is (text, headers with the file's name, `after` of the next file or None). Raises NotFound and Forbidden.
    """
    chat = chat_access.get_readable(user, chat_id)
    if not auth.may_manage(user, chat.owner_id):
        raise Forbidden("forbidden", "Only the owner of a chat can export it.")
    if audit_trail.must_record(user, chat.owner_id):
        audit_trail.record(user, "chat.export", chat.owner_id, chat.id)
    if branch is not None:
        chat_access.show_branch(chat, branch)
    page = messages.read_page(chat.path, Window(MESSAGES, after=after), hidden=True)
    rest = page.rest.after if page.rest else None
    if wanted == "json":
        text = schemas.ChatResponse.of(chat, page.messages, page.previous).model_dump_json()
    else:
        text, rest = _markdown(chat, page.messages, rest)
    name = f"{chat.title} (after {after})" if after else chat.title
    return text, {"Content-Disposition": build_disposition(name, _ENDINGS[wanted])}, rest


def build_disposition(name: str, ending: str) -> str:
    """Return the Content-Disposition of a file with this name (RFC 6266).

    A user may have written any text as the name. It must not become a path, a reserved name or another header. Browsers use
    `filename*` (RFC 8187); other clients use `filename`, in ASCII.
    """
    clean = "".join(" " if c in _FORBIDDEN or unicodedata.category(c)[0] in "CZ" else c for c in name)
    clean = " ".join(clean.split()).strip(". ") or "chat"
    if _RESERVED.match(clean):
        clean = f"_{clean}"
    plain = clean.encode("ascii", "replace").decode().replace("?", "_")
    return f"attachment; filename=\"{plain}.{ending}\"; filename*=UTF-8''{quote(f'{clean}.{ending}', safe='')}"


def _markdown(chat: Chat, thread: list[Message], rest: int | None) -> tuple[str, int | None]:
    """Return a chat as Markdown, and the `after` of the next file.

    Fences can make the text longer than a page may be. Then the file ends before the page does.
    """
    parts = [f"# {_escape(chat.title)}\n\nChat {chat.id}, begun {chat.create_time}.\n"]
    size, last = 0, None
    for message in thread:
        part = _section(message)
        size += len(json.dumps(part, ensure_ascii=False).encode())  # as Lambda's JSON encodes it
        if last is not None and size > messages.PAGE_BYTES:
            return "\n".join(parts), last
        parts.append(part)
        last = message.n
    return "\n".join(parts), rest


def _section(message: Message) -> str:
    about = [f"**{message.role}**", message.create_time]
    about += [_escape(said) for said in (message.model, message.finish_reason) if said]
    about += ["image"] * (message.type == "image") + ["hidden"] * (not message.visibility)
    parts = [f"## {message.n}\n\n{', '.join(about)}\n"]
    if message.reasoning:
        parts.append(f"Reasoning:\n\n{_fence(message.reasoning)}")
    if message.content:
        parts.append(_fence(message.content))
    return "\n".join(parts)


def _fence(text: str) -> str:
    """Return text in a fence that is longer than any fence in it, so that the text cannot end it (CommonMark, section 4.5)."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}\n"


def _escape(text: str) -> str:
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)
