"""API keys as their users and administrators manage them. security/api_keys.py says what a key is.

A user's list names the id and the digest of each key, in one set. So one transaction makes or revokes a key, and the set's size is
the limit of their number. The key itself is shown once and stored nowhere.
"""

from functools import partial
from typing import Any

from pynamodb.expressions.condition import size
from pynamodb.expressions.update import Action

from aideer.accounts import users
from aideer.core import clock
from aideer.core.errors import Busy, Conflict, Detail, InvalidToken, NotFound, Unprocessable
from aideer.data import batch_write, lookup
from aideer.data.base import new_id
from aideer.data.models import Record, User
from aideer.data.retry import attempts
from aideer.data.transactions import Refused, Transaction
from aideer.schemas.api_keys import ApiKeyChange, ApiKeyResponse, NewApiKey, NewApiKeyResponse
from aideer.security import api_keys, audit_trail, auth, budgets, rate_limits
from aideer.security.api_keys import UNLIMITED

MOST = 50
"""The most keys of one user at one time."""
KEPT_SECONDS = 31 * 86400
"""How long the tombstone of a revoked key stays: much longer than any task."""


def create(user: User, new: NewApiKey) -> NewApiKeyResponse:
    """Make a key of this user, and return it this once.

    Raises Conflict if the user has too many, TooManyRequests, Unprocessable for an `expires_at` in the past, and InvalidToken if
    the user's session ends meanwhile.
    """
    _require_future(new.expires_at)
    rate_limits.count("key", user.id)
    key, now = api_keys.generate(), clock.timestamp()
    hashed, limit = api_keys.digest(key), UNLIMITED if new.credit_limit is None else new.credit_limit
    key_id = new_id()
    data = {
        "id": key_id,
        "user_id": user.id,
        "name": new.name,
        "hint": api_keys.hint(key),
        "models": new.models,
        "limit": limit,
        "disabled": False,
        "expires_at": new.expires_at,
        "create_time": now,
    }
    record = Record(*api_keys.record_key(hashed), data=data, room=limit, version=1)
    transaction = Transaction()
    transaction.put("key", record, Record.pk.does_not_exist())
    room = Record.ids.does_not_exist() | (size(Record.ids) < MOST)
    transaction.update("list", Record(*_list_key(user.id)), [Record.ids.add({_entry(key_id, hashed)})], room)
    good = User.deleted.does_not_exist() & auth.require_session(user.token_version, user.session_id)
    # So linking does not take a user with a key for one that was never used.
    transaction.update("user", User(user.id), [User.update_time.set(now)], good)
    try:
        transaction.commit(proof=partial(lookup.exists, Record(*api_keys.record_key(hashed))))
    except Refused as refused:
        if "user" in refused.steps:
            raise InvalidToken from None
        raise Conflict(
            "too_many_keys", Detail("A user can have at most {most} API keys. Delete one first.", most=MOST)
        ) from None
    return NewApiKeyResponse(**_fields(record), key=key)


def list_all(actor: User, user_id: str) -> list[ApiKeyResponse]:
    """Return the keys of a user that the actor may manage, newest first. Raises NotFound and Forbidden."""
    owner = _get_owner(actor, user_id)
    if audit_trail.must_record(actor, owner):
        audit_trail.record(actor, "key.list", owner)
    keys = [api_keys.record_key(hashed) for _, hashed in _read_list(owner)]
    found = Record.batch_get(keys, consistent_read=True) if keys else []
    shown = [ApiKeyResponse(**_fields(record)) for record in found if not api_keys.is_revoked(record)]
    return sorted(shown, key=lambda each: each.id, reverse=True)


def change(user: User, key_id: str, wanted: ApiKeyChange) -> ApiKeyResponse:
    """Change a key of this user. Its holds and what it has spent stay counted.

    Raises NotFound, Unprocessable, TooManyRequests if the writing budget is used up, and Busy.
    """
    budgets.charge_writing(user.id, 0)
    given = wanted.model_dump(exclude_unset=True)
    _require_future(given.get("expires_at"))
    hashed = _find(user.id, key_id)
    for _ in attempts():
        record = lookup.find(Record, *api_keys.record_key(hashed))
        if record is None or api_keys.is_revoked(record):
            raise _not_found()
        data = {**record.data, **{name: value for name, value in given.items() if name != "credit_limit"}}
        if "credit_limit" in given:
            data["limit"] = UNLIMITED if given["credit_limit"] is None else given["credit_limit"]
        more = data["limit"] - record.data["limit"]
        actions: list[Action] = [Record.data.set(data), Record.version.add(1), Record.room.add(more)]
        transaction = Transaction()
        transaction.update("key", record, actions, Record.version == record.version)
        try:
            transaction.commit(proof=partial(_is_stored, hashed, data, int(record.version) + 1))
        except Refused:
            continue  # another request has changed it: read again
        return ApiKeyResponse(**_fields(_require(hashed)))
    raise Busy


def revoke(actor: User, user_id: str, key_id: str) -> None:
    """Revoke a key of a user that the actor may manage. It is refused from now on, and the answers that it has begun go on.

    Raises NotFound and Forbidden.
    """
    owner = _get_owner(actor, user_id)
    hashed = _find(owner, key_id)
    transaction = Transaction()
    entry = _entry(key_id, hashed)
    transaction.update("list", Record(*_list_key(owner)), [Record.ids.delete({entry})], Record.ids.contains(entry))
    actions: list[Action] = [Record.version.add(1), Record.ttl.set(int(clock.now()) + KEPT_SECONDS)]
    transaction.update("key", Record(*api_keys.record_key(hashed)), actions, Record.pk.exists())
    if audit_trail.must_record(actor, owner):
        audit_trail.record_in(transaction, actor, "key.revoke", owner, key_id)
    try:
        transaction.commit(proof=lambda: (key_id, hashed) not in _read_list(owner))
    except Refused:
        raise _not_found() from None


def remove_all(user_id: str, deadline: float) -> bool:
    """Remove the keys of a deleted user without open tasks. Return False if `deadline` (of time.monotonic) comes first."""
    keys = [api_keys.record_key(hashed) for _, hashed in _read_list(user_id)]
    if not batch_write.delete(Record, [{"pk": {"S": pk}, "sk": {"S": sk}} for pk, sk in keys], deadline):
        return False
    Record(*_list_key(user_id)).delete()
    return True


def _get_owner(actor: User, user_id: str) -> str:
    resolved = users.resolve_id(actor, user_id)
    return actor.id if resolved == actor.id else str(users.get_manageable(actor, resolved).id)


def _find(user_id: str, key_id: str) -> str:
    """Return the digest of a key of this user. Raises NotFound."""
    for each, hashed in _read_list(user_id):
        if each == key_id:
            return hashed
    raise _not_found()


def _read_list(user_id: str) -> list[tuple[str, str]]:
    """Return the id and the digest of each of a user's keys."""
    listed = lookup.find(Record, *_list_key(user_id))
    pairs = [entry.partition("#") for entry in (listed.ids or () if listed else ())]
    return [(key_id, hashed) for key_id, _, hashed in pairs]


def _fields(record: Record) -> dict[str, Any]:
    data = record.data
    kept = ("id", "name", "hint", "models", "disabled", "expires_at", "create_time")
    return {
        **{name: data[name] for name in kept},
        "credit_limit": None if data["limit"] == UNLIMITED else data["limit"],
        "credits_used": data["limit"] - int(record.room),
        "last_used_time": clock.timestamp(record.at) if record.at else None,
    }


def _require(hashed: str) -> Record:
    record = lookup.find(Record, *api_keys.record_key(hashed))
    if record is None or api_keys.is_revoked(record):
        raise _not_found()
    return record


def _is_stored(hashed: str, data: dict[str, Any], version: int) -> bool:
    record = lookup.find(Record, *api_keys.record_key(hashed))
    return record is not None and (record.data, record.version) == (data, version)


def _require_future(expires_at: str | None) -> None:
    if expires_at is not None and expires_at <= clock.timestamp():
        raise Unprocessable("expires_in_the_past", "expires_at must be in the future.")


def _not_found() -> NotFound:
    return NotFound("key_not_found", "There is no such API key.")


def _entry(key_id: str, hashed: str) -> str:
    return f"{key_id}#{hashed}"


def _list_key(user_id: str) -> tuple[str, str]:
    return f"api_keys#{user_id}", "list"
