"""The audit trail: the actions of administrators on things of other users, and on users and redeem codes.

A record names the administrator, the action, the owner, the object and the time. It also has the reason, if the administrator sent
one in the header X-Reason. It holds ids and no user's text. The record of a change is written in the change's transaction, and the
record of a reading before the response. Records are never changed: no function may update or delete them. They expire by their
TTL, after AUDIT_DAYS.

A change happens only while its administrator still is one, because record_in makes that a condition of the transaction.
"""

from functools import partial
from typing import Any, Literal, NamedTuple

from pynamodb.expressions.condition import Condition
from pynamodb.pagination import PageIterator

from aideer.core import clock, settings
from aideer.core.errors import Unprocessable
from aideer.data import lookup
from aideer.data.base import new_id
from aideer.data.models import AuditRecord, User
from aideer.data.transactions import Transaction
from aideer.security import admins, auth

Action = Literal[
    "chat.read",
    "chat.export",
    "chat.copy",
    "chat.change",
    "chat.delete",
    "chat.like",
    "share.list",
    "share.revoke",
    "feedback.list",
    "preset.read",
    "preset.use",
    "preset.create",
    "preset.change",
    "preset.delete",
    "preset.like",
    "users.list",
    "user.read",
    "user.ledger",
    "user.change",
    "user.permission",
    "user.password",
    "user.grant",
    "user.delete",
    "key.list",
    "key.revoke",
    "codes.list",
    "code.read",
    "codes.create",
    "code.revoke",
    "batch.revoke",
    "config.change",
    "dead_letters.redrive",
]
READS = 16
"""The most queries for one page."""


class Page(NamedTuple):
    """Records, the newest first. `more` is the id of the last one that was read, if there may be more."""

    records: list[AuditRecord]
    more: str | None


def must_record(actor: User, owner_id: str | None) -> bool:
    """Return whether this user acts as an administrator on something of this owner."""
    return actor.permission >= auth.ADMIN and actor.id != owner_id


def record(actor: User, action: Action, user_id: str | None = None, about: str | None = None) -> None:
    """Record a reading. Call this before the response."""
    _record(actor, action, user_id, about).save()


def record_in(
    transaction: Transaction,
    actor: User,
    action: Action,
    user_id: str | None = None,
    about: str | None = None,
) -> None:
    """Record a change in its transaction, and require that the actor is an administrator when it happens.

    `commit` raises Forbidden if the actor is none any more, and InvalidToken if the actor was deleted.
    """
    admins.require_in(transaction, "admin", actor.id, partial(auth.demotion_error, actor))
    transaction.put("trail", _record(actor, action, user_id, about))


def read_page(admin: str | None, user: str | None, action: str | None, limit: int, before: str | None) -> Page:
    """Return at most `limit` records that match every given filter, the newest first, below the id `before`.

    A page may be shorter although there are more, because it makes at most READS queries. Raises Unprocessable if no record can
    have the id `before`.
    """
    if before is not None and not lookup.is_possible(AuditRecord.ALL, before):
        raise Unprocessable("invalid_cursor", "This cursor is not from this list.")
    found: list[AuditRecord] = []
    pages = _pages(admin, user, action, limit, before)
    for _ in range(READS):
        for item in next(pages)["Items"]:
            if len(found) == limit:
                return Page(found, str(found[-1].id))
            found.append(AuditRecord.from_raw_data(item))
        if not (last := pages.last_evaluated_key):
            return Page(found, None)
        more = str(last["id"]["S"])  # this record may not match the filters
    return Page(found, more)


def _pages(
    admin: str | None, user: str | None, action: str | None, limit: int, before: str | None
) -> PageIterator[Any]:
    condition: Condition = AuditRecord.ttl > int(clock.now())
    for attribute, value in ((AuditRecord.actor_id, admin), (AuditRecord.action, action)):
        if value is not None:
            condition &= attribute == value
    below, size = AuditRecord.id < before if before else None, limit + 1
    if user is None:
        found = AuditRecord.query(AuditRecord.ALL, below, condition, scan_index_forward=False, page_size=size)
    else:
        found = AuditRecord.by_user.query(user, below, condition, scan_index_forward=False, page_size=size)
    return found.page_iter


def _record(actor: User, action: Action, user_id: str | None, about: str | None) -> AuditRecord:
    now = clock.now()
    return AuditRecord(
        AuditRecord.ALL,
        new_id(),
        actor_id=actor.id,
        action=action,
        user_id=user_id,
        about=about,
        reason=actor.reason,
        create_time=clock.timestamp(now),
        ttl=int(now) + settings.AUDIT_DAYS * 86400,
    )
