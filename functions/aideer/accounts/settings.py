"""The settings of a user's front ends: one JSON object that AIDeer keeps and does not read.

They are a record of their own, because every call reads the user, and would read them too. Each change raises their version, which
is their ETag. With If-Match, a device overwrites only what it has read. Version 0 stands for settings that nobody has stored.
"""

from functools import partial
from typing import Any

from aideer.core.errors import Busy, Detail, PreconditionFailed, TooLarge
from aideer.data import lookup
from aideer.data.models import Record, User
from aideer.data.retry import attempts
from aideer.data.transactions import Refused, Transaction
from aideer.schemas.oneself import SETTINGS_BYTES, encode_settings
from aideer.security import budgets
from aideer.web import etags

_SK = "settings"


def read(user: User, if_none_match: str | None) -> tuple[dict[str, Any], int]:
    """Return the user's settings and their version. Raises NotModified if the caller has this version."""
    settings, version = _find(user.id)
    etags.require_modified(if_none_match, version)
    return settings, version


def replace(user: User, settings: dict[str, Any], if_match: str | None) -> int:
    """Replace the user's settings and return their new version.

    Raises TooLarge, PreconditionFailed if they are not the version that If-Match names, TooManyRequests if the writing budget is
    used up, and Busy.
    """
    size = len(encode_settings(settings))
    if size > SETTINGS_BYTES:
        raise TooLarge("too_large", Detail("Settings can have at most {most} bytes.", most=SETTINGS_BYTES))
    budgets.charge_writing(user.id, size)
    for _ in attempts():
        _, version = _find(user.id)
        if if_match is not None and not etags.matches(if_match, version):
            raise PreconditionFailed("precondition_failed", "The settings have changed since you read them.")
        transaction = Transaction()
        unchanged = (Record.version == version) if version else Record.pk.does_not_exist()
        transaction.put("settings", Record(_pk(user.id), _SK, data=settings, version=version + 1), unchanged)
        try:
            transaction.commit(proof=partial(_is_stored, user.id, settings, version + 1))
        except Refused:
            continue  # another device was faster: read again
        return version + 1
    raise Busy


def remove(user_id: str) -> None:
    """Remove the settings of a deleted user."""
    Record(_pk(user_id), _SK).delete()


def _find(user_id: str) -> tuple[dict[str, Any], int]:
    record = lookup.find(Record, _pk(user_id), _SK)
    return (record.data, int(record.version or 0)) if record else ({}, 0)


def _is_stored(user_id: str, settings: dict[str, Any], version: int) -> bool:
    stored, stored_version = _find(user_id)
    return stored_version == version and encode_settings(stored) == encode_settings(settings)


def _pk(user_id: str) -> str:
    return f"settings#{user_id}"
