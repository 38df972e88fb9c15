"""Share links: who holds a link's token reads a chat without signing in, until the link is revoked or expires.

A link shows at most what its chat showed when the link was made. It stores no copy. It stores a digest of each message that was
visible then, and shows a message only while the chat still shows it with this digest. So a message that is written, edited or made
anew later never appears. A message that is deleted, hidden or on another branch disappears at once. The title is the one of that
moment.

A link is three records, which one transaction writes or removes: the link by the token's hash, an entry in the chat's list, and an
entry in the owner's list. The token is stored nowhere. It is a MAC of the link's id, so that a repeated request gets it again.
shared_chats.py shows a chat to the holder of a token.
"""

import base64
import hashlib
import hmac
import json
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

from aideer.chats import chat_access, messages
from aideer.chats.messages import Window
from aideer.core import aws, clock, settings
from aideer.core.errors import AideerError, Busy, Conflict, Detail, Forbidden, NotFound, TooLarge, Unprocessable
from aideer.data import batch_write, lookup
from aideer.data.base import new_id
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import Chat, Message, Record, User
from aideer.data.retry import attempts, pause
from aideer.data.transactions import Refused, Transaction
from aideer.prompts import prompts
from aideer.schemas.shares import DEFAULT_SECONDS, LONGEST_SECONDS, NewShare, NewShareResponse, ShareResponse
from aideer.security import audit_trail, rate_limits
from aideer.web import origin

OF_A_CHAT = 20
"""The most links of one chat at one time."""
OF_A_USER = 500
"""The most links of one user at one time."""
MESSAGES = 2000
"""The most messages that a link shows, as for a copy."""
DIGEST = 8
"""The characters of a message's digest."""
_PAGES = 4  # of PAGE_BYTES: as many bytes as a copy may have
_HEAD = "version"
_FIELDS = tuple(ShareResponse.model_fields)


def create(user: User, chat_id: str, new: NewShare, request: IdempotentRequest) -> NewShareResponse:
    """Make a link to the user's own chat.

    Raises NotFound, Forbidden (even for administrators), Conflict (too many links), TooLarge, TooManyRequests, and Busy. Raises
    Unprocessable if there is nothing to show, no message `upto`, or if the link would expire too early or too late.
    """
    if answer := request.find_answer():
        return _repeat(answer)
    try:
        return _create(user, chat_id, new, request)
    except AideerError:  # perhaps because this request's own first attempt is done
        if answer := request.find_answer():
            return _repeat(answer)
        raise


def list_all(user: User, chat_id: str) -> list[ShareResponse]:
    """Return the links of a chat that the user may manage, newest first. Raises NotFound and Forbidden."""
    chat = chat_access.get_manageable(user, chat_id)
    if audit_trail.must_record(user, chat.owner_id):
        audit_trail.record(user, "share.list", chat.owner_id, chat.id)
    records = [record for record in _query(_chat_key(chat.id)) if not is_expired(record)]
    return [_to_response(record.data) for record in reversed(records)]


def revoke(user: User, chat_id: str, share_id: str) -> None:
    """Revoke a link of a chat that the user may manage: it shows nothing from now on. Raises NotFound and Forbidden."""
    chat = chat_access.get_manageable(user, chat_id)
    listed = lookup.find(Record, _chat_key(chat.id), share_id)
    if listed is None or is_expired(listed):
        raise not_found()
    transaction = Transaction()
    transaction.delete("listed", Record(listed.pk, listed.sk), Record.pk.exists())
    for key in _keys(listed.data)[1:]:
        transaction.delete(key[0], Record(*key))
    if audit_trail.must_record(user, chat.owner_id):
        audit_trail.record_in(transaction, user, "share.revoke", chat.owner_id, chat.id)
    try:
        transaction.commit(proof=lambda: lookup.find(Record, listed.pk, listed.sk) is None)
    except Refused:
        raise not_found() from None


def find(token: str) -> Record | None:
    """Return the link of this token as it is stored, or None if there is none, or if it has expired."""
    record = lookup.find(Record, *_link_key(_hash(token)))
    return None if record is None or is_expired(record) else record


def is_expired(record: Record) -> bool:
    """Return whether a link has expired. DynamoDB removes it some time after that."""
    return bool(record.data["expires_at"] <= clock.timestamp())


def digest(message: Message) -> str:
    """Return a digest of what a link shows of a message. Any change of it gives another digest."""
    shown = [message.n, message.role, message.type, message.content, message.create_time]
    text = json.dumps(shown, ensure_ascii=False).encode()
    return base64.b64encode(hashlib.sha256(text).digest()[: DIGEST * 6 // 8]).decode()


def remove_of_chat(chat_id: str, deadline: float) -> bool:
    """Remove the links of a deleted chat. Return False if `deadline` (of time.monotonic) comes first and some are left."""
    return _remove(_query(_chat_key(chat_id)), deadline)


def remove_of_user(owner_id: str, deadline: float) -> bool:
    """Remove the links of a deleted user. Return False if `deadline` (of time.monotonic) comes first and some are left."""
    if not _remove(_query(_owner_key(owner_id), "chat#"), deadline):
        return False
    Record(_owner_key(owner_id), _HEAD).delete()
    return True


def not_found() -> NotFound:
    """Return the error for a link that does not exist, was revoked, or has expired."""
    return NotFound("share_not_found", "There is no such link.")


def _create(user: User, chat_id: str, new: NewShare, request: IdempotentRequest) -> NewShareResponse:
    now = clock.now()
    expires_at = _expiry(new, now)
    _get_owned(user, chat_id)
    rate_limits.count("share", user.id)
    for _ in attempts():
        chat = _get_owned(user, chat_id)
        version = _require_room(user.id, chat.id)
        shown = _read_shown(chat, new.upto)
        share_id = new_id()
        token = _tokens(share_id)[0]
        data = {
            "id": share_id,
            "chat_id": chat.id,
            "owner_id": user.id,
            "hash": _hash(token),
            "title": chat.title,
            "upto": shown[-1].n,
            "message_count": len(shown),
            "reasoning": new.reasoning,
            "nickname": new.nickname,
            "preset": new.preset,
            "create_time": clock.timestamp(now),
            "expires_at": expires_at,
        }
        more = {"shown": "".join(map(digest, shown)), "preset_title": _preset_title(chat) if new.preset else None}
        transaction = Transaction()
        _put_in(transaction, data, more)
        head = Record(_owner_key(user.id), _HEAD)
        transaction.update("head", head, [Record.version.add(1)], lookup.unchanged(Record.version, version))
        unchanged = (Chat.owner_id == user.id) & Chat.deleted.does_not_exist() & (Chat.version == chat.version)
        transaction.check("chat", Chat(chat.id), unchanged)
        request.store_in(transaction, {"chat_id": chat.id, "share_id": share_id})
        try:
            transaction.commit(proof=partial(lookup.exists, Record(*_link_key(_hash(token)))))
        except Refused as refused:
            if "idempotency" in refused.steps:
                raise Busy from None  # `create` looks for the answer
            pause()
            continue  # the chat changes, or another link was made
        return _to_new_response(data, token)
    raise Busy


def _get_owned(user: User, chat_id: str) -> Chat:
    refusal = Forbidden("forbidden", "Only the owner of a chat can share it by a link.")
    return chat_access.get_owned(user.id, chat_id, refusal)


def _expiry(new: NewShare, now: float) -> str:
    if new.expires_at is None:
        return clock.timestamp(now + (new.expires_in or DEFAULT_SECONDS))
    if new.expires_at <= clock.timestamp(now):
        raise Unprocessable("expires_in_the_past", "expires_at must be in the future.")
    if new.expires_at > clock.timestamp(now + LONGEST_SECONDS):
        raise Unprocessable("expires_too_late", "A link can be open for at most 366 days.")
    return new.expires_at


def _require_room(owner_id: str, chat_id: str) -> int | None:
    """Return the version of the owner's list. Raises Conflict if the chat or the owner has too many links.

    Every new link requires this version, so that links which are made at the same time do not exceed the limits.
    """
    listed = list(_query(_owner_key(owner_id)))
    head = [int(record.version) for record in listed if record.sk == _HEAD]
    links = [record for record in listed if record.sk != _HEAD and not is_expired(record)]
    if sum(record.data["chat_id"] == chat_id for record in links) >= OF_A_CHAT:
        raise Conflict(
            "too_many_shares", Detail("A chat can have at most {most} links. Revoke one first.", most=OF_A_CHAT)
        )
    if len(links) >= OF_A_USER:
        raise Conflict(
            "too_many_shares", Detail("A user can have at most {most} links. Revoke some first.", most=OF_A_USER)
        )
    return head[0] if head else None


def _read_shown(chat: Chat, upto: int | None) -> list[Message]:
    """Return the messages of a chat that a link shows: the visible ones up to and including `upto`, without filtered answers."""
    window: Window | None = Window(MESSAGES + 1, None if upto is None else upto + 1, after=0)
    found: list[Message] = []
    for _ in range(_PAGES):
        if window is None:
            break
        page = messages.read_page(chat.path, window, hidden=False)
        found += page.messages
        window = page.rest
    if window is not None or len(found) > MESSAGES:
        raise TooLarge("too_large", Detail("A link can show at most {messages} messages and 16 MB.", messages=MESSAGES))
    if upto is not None and (not found or found[-1].n != upto):
        raise Unprocessable("unknown_message", "This chat has no such message.")
    shown = [message for message in found if message.finish_reason != "content_filter"]
    if not shown:
        raise Unprocessable("nothing_to_share", "This chat has no message that a link could show.")
    return shown


def _preset_title(chat: Chat) -> str | None:
    try:
        return str(prompts.get_preset(chat.preset_id, int(chat.preset_version)).title)
    except Unprocessable:
        return None  # it is gone with its owner


def _put_in(transaction: Transaction, data: dict[str, Any], more: dict[str, Any]) -> None:
    ends = math.ceil(clock.parse(data["expires_at"]))
    listed, link, owned = _keys(data)
    short = {name: data[name] for name in ("id", "chat_id", "owner_id", "hash", "expires_at")}
    transaction.put("listed", Record(*listed, data=data, ttl=ends), Record.pk.does_not_exist())
    transaction.put("link", Record(*link, data={**data, **more}, ttl=ends), Record.pk.does_not_exist())
    transaction.put("owned", Record(*owned, data=short, ttl=ends), Record.pk.does_not_exist())


def _repeat(answer: dict[str, Any]) -> NewShareResponse:
    """Return the link that the first request with this key has made. Raises NotFound if it was revoked or has expired."""
    listed = lookup.find(Record, _chat_key(answer["chat_id"]), answer["share_id"])
    if listed is None or is_expired(listed):
        raise not_found()
    for token in _tokens(answer["share_id"]):
        if _hash(token) == listed.data["hash"]:
            return _to_new_response(listed.data, token)
    raise not_found()  # both signing keys were replaced since


def _to_response(data: dict[str, Any]) -> ShareResponse:
    return ShareResponse(**{name: data[name] for name in _FIELDS})


def _to_new_response(data: dict[str, Any], token: str) -> NewShareResponse:
    base = origin.base_url(settings.PUBLIC_BASE_URL)
    fields = dict(_to_response(data))
    return NewShareResponse(**fields, token=token, url=f"{base}/s/{token}", api_url=f"{base}/api/v1/shared/{token}")


def _tokens(share_id: str) -> list[str]:
    """Return the tokens of a link by the current signing key and the former one. No token's signed text begins with "share"."""
    text = f"share {share_id}".encode()
    macs = [hmac.digest(key.encode(), text, hashlib.sha256) for key in aws.read_signing_keys()]
    return [base64.urlsafe_b64encode(mac).decode().rstrip("=") for mac in macs]


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _keys(data: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the keys of a link's three records."""
    owned = _owner_key(data["owner_id"]), f"chat#{data['chat_id']}#{data['id']}"
    return [(_chat_key(data["chat_id"]), data["id"]), _link_key(data["hash"]), owned]


def _chat_key(chat_id: str) -> str:
    return f"shares#{chat_id}"


def _owner_key(owner_id: str) -> str:
    return f"shares_of#{owner_id}"


def _link_key(hashed: str) -> tuple[str, str]:
    return f"share#{hashed}", "share"


def _query(pk: str, prefix: str | None = None) -> Iterator[Record]:
    yield from Record.query(pk, None if prefix is None else Record.sk.startswith(prefix), consistent_read=True)


def _remove(listed: Iterator[Record], deadline: float) -> bool:
    for record in listed:
        keys = [{"pk": {"S": pk}, "sk": {"S": sk}} for pk, sk in _keys(record.data)]
        if not batch_write.delete(Record, keys, deadline):
            return False
    return True
