"""API keys as callers send them. Who holds a key asks models for its user, until the key is revoked, paused or expired.

A key is random, so its SHA-256 needs no salt and no slow hash. Only this digest is stored, as the hash key of the record. So one
read finds a key. accounts/api_keys.py makes, lists, changes and revokes keys.

`room` is what the key may still hold: its limit less the credits that it has spent or holds. A key without a limit has UNLIMITED
in its place, so a limit can come later and is exact all the same. billing/key_room.py moves it.

Each change of a key by a person raises `version`, and a hold requires the version that was read. So a hold sees the key as it is.
A revoked key stays as a tombstone for longer than any task runs, because a task that it began still returns its room.
"""

import hashlib
import secrets
from dataclasses import dataclass

from pynamodb.exceptions import UpdateError

from aideer.core import aws_errors, clock
from aideer.core.errors import InvalidToken
from aideer.data import lookup
from aideer.data.models import Record

PREFIX = "sk-"
UNLIMITED = 10**15
PRESET_PREFIX = "preset-"
"""The name of a preset as a model is this, and the preset's id."""
NOTED_SECONDS = 86400
_BYTES = 24
_HINT_CHARACTERS = 4


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A good API key, as it was read."""

    id: str
    hash: str
    user_id: str
    version: int
    room: int
    models: list[str] | None
    """The models and presets that it may ask. None: all."""
    used_at: float | None
    """When it was used last, in seconds since the epoch."""

    def allows(self, model: str) -> bool:
        """Return whether the key may ask this model or preset."""
        return self.models is None or model in self.models


def generate() -> str:
    """Return a new key."""
    return f"{PREFIX}{secrets.token_hex(_BYTES)}"


def digest(key: str) -> str:
    """Return the form in which a key is stored."""
    return hashlib.sha256(key.encode()).hexdigest()


def hint(key: str) -> str:
    """Return the end of a key, by which a person tells their keys apart."""
    return key[-_HINT_CHARACTERS:]


def record_key(hashed: str) -> tuple[str, str]:
    """Return the key of the record of this digest."""
    return f"api_key#{hashed}", "key"


def find(key: str) -> ApiKey:
    """Return a key that is good now. Raises InvalidToken if there is none, or if it is paused, revoked or expired."""
    return read(digest(key))


def read(hashed: str) -> ApiKey:
    """Return the key with this digest, as `find` does."""
    record = lookup.find(Record, *record_key(hashed))
    if record is None or is_revoked(record):
        raise InvalidToken("invalid_api_key", "This API key does not exist, or was revoked.")
    data = record.data
    if data["disabled"]:
        raise InvalidToken("api_key_paused", "This API key is paused.")
    if data["expires_at"] and data["expires_at"] <= clock.timestamp():
        raise InvalidToken("api_key_expired", "This API key has expired.")
    return ApiKey(data["id"], hashed, data["user_id"], int(record.version), int(record.room), data["models"], record.at)


def note_use(key: ApiKey) -> None:
    """Note that a key was used, at most once in NOTED_SECONDS. Holds note it by themselves."""
    now = int(clock.now())
    if key.used_at is not None and key.used_at > now - NOTED_SECONDS:
        return
    try:
        Record(*record_key(key.hash)).update([Record.at.set(now)], Record.version == key.version)
    except UpdateError as error:
        if not (aws_errors.is_refusal(error) or aws_errors.is_conflict(error)):
            raise


def is_revoked(record: Record) -> bool:
    """Return whether the record is the tombstone of a revoked key."""
    return bool(record.ttl)
