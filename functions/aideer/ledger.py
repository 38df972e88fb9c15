"""The ledger as its user reads it. credits.py writes it."""

from aideer import credits, pages
from aideer.contract.credits import CreditRecord, Ledger
from aideer.models import CreditEntry, User

_LIST = "credits"


def page(user: User, limit: int, cursor: str | None, offset: int) -> tuple[Ledger, str | None]:
    """A page of the user's ledger, newest first, and the cursor of the next."""
    before = CreditEntry.entry_id < pages.decode(_LIST, cursor, (str,))[0] if cursor else None
    entries = list(
        CreditEntry.query(
            user.id, before, scan_index_forward=False, limit=offset + limit + 1, consistent_read=True
        )
    )[offset:]
    records = [_record(entry) for entry in entries[:limit]]
    more = pages.encode(_LIST, [records[-1].id]) if len(entries) > limit else None
    left, held = int(user.credits), credits.credits_held(user)
    return Ledger(credits_left=left, credits_held=held, credit_records=records), more


def _record(entry: CreditEntry) -> CreditRecord:
    return CreditRecord(
        id=entry.entry_id,
        user_id=entry.user_id,
        amount=entry.amount,
        kind=entry.kind,
        description=entry.description,
        task_id=entry.task_id,
        model=entry.model,
        input_tokens=entry.input_tokens,
        output_tokens=entry.output_tokens,
        price_version=entry.price_version,
        create_time=entry.create_time,
    )
