"""A chat, as anybody with a share link reads it. shares.py says what a link shows.

A token that is unknown, revoked or expired, a deleted chat and a deleted owner all give the same 404. A reader is a stranger, so
the requests of an address are limited. The bytes count towards a budget of the links' owner, so a popular link cannot cost without
bound.
"""

from collections.abc import Iterator

from aideer.chats import messages, shares
from aideer.chats.messages import Page, Window
from aideer.core.errors import NotFound, TooManyRequests
from aideer.data import lookup
from aideer.data.models import Chat, Message, Record, User
from aideer.schemas.shares import SharedChatResponse, SharedMessageResponse
from aideer.security import budgets, exhausted, public_names, rate_limits, readers
from aideer.uploads import references, storage

HEADERS = {"X-Robots-Tag": "noindex, nofollow", "Referrer-Policy": "no-referrer"}
"""Headers of every answer about a link: no search engine lists it, and no link of a message gives its address away."""
IMAGE_BYTES = 4_400_000
"""The most bytes of an image. A Lambda response may have 6 MB, in base64."""


def read(token: str, window: Window, address: str) -> tuple[SharedChatResponse, Window | None]:
    """Return the chat of a link with a window of its messages, and the next window if there may be more.

    A page may have fewer messages than the window, although more follow. Raises NotFound, and TooManyRequests for too many requests
    of this address or too many bytes of this owner's links.
    """
    link, chat, owner = _open(token, address)
    page = _read_page(link, chat, window)
    return _show(link, owner, page.messages), page.rest


def read_image(token: str, n: int, address: str) -> bytes:
    """Return the uploaded image of a message that a link shows, as JPEG. Raises NotFound and TooManyRequests as `read` does.

    The image passes this function, and no signed address is given away: a stranger could fetch that without a limit.
    """
    link, chat, _ = _open(token, address)
    page = _read_page(link, chat, Window(1, n + 1, after=n - 1))
    shown = next((message for message in _shown(link.data["shown"], page.messages) if message.n == n), None)
    upload = references.find_image(shown) if shown else None
    image = storage.read_image(upload) if upload else None
    if image is None or len(image) > IMAGE_BYTES:
        raise _not_found()
    return image


def _open(token: str, address: str) -> tuple[Record, Chat, User]:
    """Return a link with its chat and its owner. Raises NotFound and TooManyRequests."""
    _count(address)
    link = shares.find(token)
    if link is None:
        raise _not_found()
    chat, owner = lookup.find(Chat, link.data["chat_id"]), lookup.find(User, link.data["owner_id"])
    if chat is None or owner is None or chat.deleted or owner.deleted or chat.owner_id != owner.id:
        raise _not_found()
    readers.charge_links(owner.id)
    return link, chat, owner


def _read_page(link: Record, chat: Chat, window: Window) -> Page:
    """Return the visible messages of a window, as far as the link goes."""
    end = link.data["upto"] + 1
    before = end if window.before is None else min(window.before, end)
    page = messages.read_page(chat.path, Window(window.limit, before, window.after), hidden=False)
    budgets.note(link.data["owner_id"], page.unsent, "shared_read")
    return page


def _count(address: str) -> None:
    """Count a request of an address, and of its wider networks. Raises TooManyRequests."""
    exhausted.require_room("shared", address)
    try:
        for _ in rate_limits.count_networks("shared", address):
            pass
    except TooManyRequests as refusal:
        exhausted.remember("shared", address, refusal)
        raise


def _show(link: Record, owner: User, page: list[Message]) -> SharedChatResponse:
    data = link.data
    return SharedChatResponse(
        title=data["title"],
        preset=data["preset_title"],
        owner=public_names.get_public_name(owner) if data["nickname"] else None,
        create_time=data["create_time"],
        expires_at=data["expires_at"],
        messages=[
            SharedMessageResponse(
                n=message.n,
                role=message.role,
                type=message.type,
                content=message.content,
                create_time=message.create_time,
                reasoning=message.reasoning if data["reasoning"] else None,
                sources=message.sources,
            )
            for message in _shown(data["shown"], page)
        ],
    )


def _shown(digests: str, page: list[Message]) -> Iterator[Message]:
    known = {digests[at : at + shares.DIGEST] for at in range(0, len(digests), shares.DIGEST)}
    return (message for message in page if shares.digest(message) in known)


def _not_found() -> NotFound:
    return NotFound("share_not_found", "There is no such link.", headers=HEADERS)
