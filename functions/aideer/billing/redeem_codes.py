"""Redeem codes, as administrators make, see and revoke them. topups.py redeems them, and code_lists.py lists them.

A code is never deleted, so its uses can be counted and its name is not given twice. A revoked code stays, but cannot be redeemed
any more.

A batch may have more codes than one transaction can write. Its record names all of them. One transaction writes the record and the
Idempotency-Key before the first code. The codes follow in chunks, in order, and each chunk is written whole or not at all. If a
batch breaks off, the same request completes it. Its answer is the same, because it is made from the record. Revoking a batch marks
the record first, so that no further chunk is written. Then it revokes each code that exists. Repeating the revocation does no harm,
and completes it.
"""

import re
import secrets
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aideer.core import clock
from aideer.core.errors import Conflict, NotFound, Unprocessable
from aideer.data import lookup
from aideer.data.base import new_id
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import Code, Record, User
from aideer.data.transactions import Refused, Transaction
from aideer.schemas.credits import CodeBatchResponse, NewCode, RedeemCodeResponse
from aideer.schemas.strings import clean_pasted
from aideer.security import audit_trail

_ALPHABET = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"  # no 0 and O, no 1, I and L
_GROUPS, _GROUP = 4, 5  # 20 characters of 31 are 99 bits: too many to guess
LONGEST = 64
_FORMULA = re.compile("""(?:^(?=[\t\r\n])|(?:^|(?<=[;,|\t\r\n]))(?=[\\s"]*[=+\\-@＝＋－＠﹦﹢﹣﹫]))""")
_CHUNK = 99  # and the batch's record: a transaction takes 100 items
_THREADS = 8


def create(admin: User, new: NewCode, request: IdempotentRequest) -> RedeemCodeResponse | CodeBatchResponse:
    """Make a code, or a batch of them.

    Raises Conflict if a code of this name exists, or if the batch was revoked before it was complete. Raises Unprocessable if the
    codes would have expired already.
    """
    answer = request.find_answer()
    if answer is None and new.expires_at and new.expires_at <= clock.timestamp():
        raise Unprocessable("expires_in_the_past", "expires_at must be in the future.")
    if new.count is None:
        return _recall(answer) if answer else _single(admin, new, request)
    return _complete(_batch(answer["batch"]) if answer else _begin(admin, new, new.count, request))


def get(admin: User, text: str) -> RedeemCodeResponse:
    """Return the code of this name, in any case of letters. Raises NotFound."""
    code = _find(clean_pasted(text).upper())
    if code is None:
        raise _not_found()
    audit_trail.record(admin, "code.read", about=code.code)
    return to_response(code)


def revoke(admin: User, text: str) -> None:
    """Revoke a code: it cannot be redeemed any more. Credits that it has already brought stay. Raises NotFound."""
    name = clean_pasted(text).upper()
    if not 0 < len(name) <= LONGEST or not _try_revoke(name, admin):
        raise _not_found()


def revoke_batch(admin: User, batch: str) -> None:
    """Revoke all codes of a batch. Raises NotFound."""
    record = _batch(batch)
    transaction = Transaction()
    transaction.update("batch", record, [Record.at.set(int(clock.now()))], Record.pk.exists())
    audit_trail.record_in(transaction, admin, "batch.revoke", about=batch)
    transaction.commit()
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(_try_revoke, record.data["names"]))


def format_csv(codes: Iterable[RedeemCodeResponse], *, uses: bool = False) -> str:
    """Return codes as a table (RFC 4180) with a first line of names. Every cell is quoted, and no cell is a formula.

    `uses` adds how often each code was used, and its state.
    """
    import csv
    import io

    text = io.StringIO()
    table = csv.writer(text, quoting=csv.QUOTE_ALL)
    names = [
        "redeem_code",
        "value",
        "max_uses",
        "expires_at",
        "batch",
        "description",
        *(["used", "state"] if uses else []),
    ]
    table.writerow(names)
    for code in codes:
        cells = [getattr(code, name) for name in names]
        table.writerow(["" if cell is None else _no_formula(str(cell)) for cell in cells])
    return text.getvalue()


def generate() -> str:
    """Return a new code that is easy to read out and to type: groups of unambiguous letters and digits."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(_GROUP)) for _ in range(_GROUPS))


def to_response(code: Code) -> RedeemCodeResponse:
    """Return a code as administrators see it."""
    if code.used >= code.max_uses:
        state = "used_up"
    elif code.revoked:
        state = "revoked"
    elif code.expires_at and code.expires_at <= clock.timestamp():
        state = "expired"
    else:
        state = "active"
    return RedeemCodeResponse(
        redeem_code=code.code,
        value=code.value,
        max_uses=code.max_uses,
        used=code.used,
        state=state,
        expires_at=code.expires_at,
        batch=code.batch,
        description=code.description,
        create_time=code.create_time,
    )


def _recall(answer: dict[str, Any]) -> RedeemCodeResponse:
    """Return the code of a stored answer. One of release 0.1 has no description."""
    return RedeemCodeResponse(**{"description": None, **answer})


def _single(admin: User, new: NewCode, request: IdempotentRequest) -> RedeemCodeResponse:
    code = Code(
        new.redeem_code or generate(),
        value=new.value,
        max_uses=new.max_uses,
        expires_at=new.expires_at,
        description=new.description,
        create_time=clock.timestamp(),
    )
    made = to_response(code)
    transaction = Transaction()
    transaction.put("code", code, Code.code.does_not_exist())
    audit_trail.record_in(transaction, admin, "codes.create", about=code.code)
    request.store_in(transaction, made.model_dump())
    try:
        transaction.commit()
    except Refused:
        if answer := request.find_answer():
            return _recall(answer)
        raise Conflict("code_exists", "A code with this name exists already.") from None
    return made


def _begin(admin: User, new: NewCode, count: int, request: IdempotentRequest) -> Record:
    """Write a batch's record and return it. If another request with the same key was first, return the record of that one."""
    batch, codes = new_id(), new.model_dump(include={"value", "max_uses", "expires_at", "description"})
    codes |= {"create_time": clock.timestamp(), "names": [generate() for _ in range(count)]}
    record = Record(f"batch#{batch}", "codes", data=codes)
    transaction = Transaction()
    transaction.put("batch", record)  # no other record has this id
    audit_trail.record_in(transaction, admin, "codes.create", about=batch)
    request.store_in(transaction, {"batch": batch})
    try:
        transaction.commit()
    except Refused:
        if answer := request.find_answer():
            return _batch(answer["batch"])
        raise
    return record


def _complete(record: Record) -> CodeBatchResponse:
    """Write the missing codes of a batch, and return the batch. Raises Conflict if it was revoked."""
    batch, common = record.pk.partition("#")[2], {**record.data}
    codes = [Code(name, batch=batch, **common) for name in common.pop("names")]
    if not _find(codes[-1].code):
        for start in range(0, len(codes), _CHUNK):
            _write(record, codes[start : start + _CHUNK])
    return CodeBatchResponse(batch=batch, codes=[to_response(code) for code in codes])


def _write(record: Record, codes: list[Code]) -> None:
    transaction = Transaction()
    transaction.check("batch", Record(record.pk, record.sk), Record.pk.exists() & Record.at.does_not_exist())
    for code in codes:
        transaction.put("codes", code, Code.code.does_not_exist())
    try:
        transaction.commit()
    except Refused as refused:
        if "codes" in refused.steps:  # an earlier request wrote them: no other code has such random names
            return
        raise Conflict("batch_revoked", "This batch was revoked before it was complete.") from None


def _batch(batch: str) -> Record:
    record = lookup.find(Record, f"batch#{batch}", "codes")
    if record is None:
        raise NotFound("batch_not_found", "There is no such batch.")
    return record


def _try_revoke(name: str, admin: User | None = None) -> bool:
    transaction = Transaction()  # because a plain update would be refused while a user redeems the code
    transaction.update("code", Code(name), [Code.revoked.set(True)], Code.code.exists())
    if admin:
        audit_trail.record_in(transaction, admin, "code.revoke", about=name)
    try:
        transaction.commit()
    except Refused:
        return False
    return True


def _no_formula(text: str) -> str:
    """Put ' before each part of a cell that a spreadsheet could take for a formula (OWASP: "CSV Injection").

    A spreadsheet may split lines at a separator other than the comma. So a part also begins after each separator.
    """
    return _FORMULA.sub("'", text)


def _not_found() -> NotFound:
    return NotFound("code_not_found", "There is no such code.")


def _find(name: str) -> Code | None:
    return lookup.find(Code, name)
