"""The ledger as its user and administrators read it. credits.py and topups.py write it."""

from aideer.billing import credits
from aideer.core.errors import Unprocessable
from aideer.data import lookup
from aideer.data.models import CreditEntry, User
from aideer.schemas.credits import LedgerEntryResponse, LedgerResponse
from aideer.security import audit_trail
from aideer.web import pagination

_LIST = "credits"
_LONGEST_ID = 64


def list_page(user: User, limit: int, cursor: str | None, offset: int) -> tuple[LedgerResponse, str | None]:
    """Return a page of the user's ledger, newest first, and the cursor of the next page."""
    before = CreditEntry.entry_id < _entry_id(cursor) if cursor is not None else None
    entries = list(
        CreditEntry.query(user.id, before, scan_index_forward=False, limit=offset + limit + 1, consistent_read=True)
    )[offset:]
    records = [_record(entry) for entry in entries[:limit]]
    more = pagination.encode(_LIST, [records[-1].id]) if len(entries) > limit else None
    stand = {"credits_left": user.credits, "credits_held": credits.sum_holds(user)}
    return LedgerResponse(**stand, credit_records=records), more


def list_page_of(
    admin: User, user_id: str, limit: int, cursor: str | None, offset: int
) -> tuple[LedgerResponse, str | None]:
    """Return a page of a user's ledger for an administrator, and record the look at another user's. Raises NotFound."""
    user = admin if admin.id == user_id else lookup.get_user(user_id)
    found = list_page(user, limit, cursor, offset)
    if audit_trail.must_record(admin, user.id):
        audit_trail.record(admin, "user.ledger", user.id)
    return found


def _entry_id(cursor: str) -> str:
    entry_id = str(pagination.decode(_LIST, cursor, (str,))[0])
    if not 0 < len(entry_id) <= _LONGEST_ID:
        raise Unprocessable("invalid_cursor", "This cursor is not from this list.")
    return entry_id


def _record(entry: CreditEntry) -> LedgerEntryResponse:
    return LedgerEntryResponse(
        id=entry.entry_id,
        user_id=entry.user_id,
        amount=entry.amount,
        kind=entry.kind,
        description=entry.description,
        task_id=entry.task_id,
        key_id=entry.key_id,
        model=entry.model,
        input_tokens=entry.input_tokens,
        output_tokens=entry.output_tokens,
        price_version=entry.price_version,
        create_time=entry.create_time,
    )
