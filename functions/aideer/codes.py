"""Redeem codes, as administrators make and see them. credits.py redeems them."""

import secrets

from aideer import clock
from aideer.contract.credits import NewCode, RedeemCode
from aideer.errors import Conflict, NotFound, Unprocessable
from aideer.idempotency import Once
from aideer.models import Code
from aideer.transactions import Refused, Transaction

_ALPHABET = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"  # no 0 and O, no 1, I and L
_GROUPS, _GROUP = 4, 5  # 20 characters of 31 are 99 bits: nobody guesses one
_LONGEST = 64


def create(new: NewCode, once: Once) -> RedeemCode:
    """Make a code. Raises Conflict where there is one of that name, and Unprocessable where it would have expired already."""
    if answer := once.answer():
        return RedeemCode(**answer)
    if new.count is not None:
        raise Unprocessable("not_supported", "Batches cannot be made yet.")
    if new.expires_at and new.expires_at <= clock.timestamp():
        raise Unprocessable("expires_in_the_past", "expires_at must be in the future.")
    code = Code(
        new.redeem_code or generated(),
        value=new.value,
        max_uses=new.max_uses,
        expires_at=new.expires_at,
        description=new.description,
        create_time=clock.timestamp(),
    )
    made = view(code)
    transaction = Transaction()
    transaction.put("code", code, Code.code.does_not_exist())
    once.join(transaction, made.model_dump())
    try:
        transaction.commit()
    except Refused:
        if answer := once.answer():
            return RedeemCode(**answer)
        raise Conflict("code_exists", "There is a code of this name.") from None
    return made


def get(text: str) -> RedeemCode:
    """The code of this name, in any case of letters. Raises NotFound."""
    code = _stored(text.upper())
    if code is None:
        raise NotFound("code_not_found", "There is no such code.")
    return view(code)


def generated() -> str:
    """A new code that can be read out and typed: groups of unambiguous letters and digits."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(_GROUP)) for _ in range(_GROUPS))


def view(code: Code) -> RedeemCode:
    """A code as administrators see it."""
    return RedeemCode(
        redeem_code=code.code,
        value=code.value,
        max_uses=code.max_uses,
        used=code.used,
        expires_at=code.expires_at,
        batch=code.batch,
        create_time=code.create_time,
    )


def _stored(name: str) -> Code | None:
    if len(name) > _LONGEST:
        return None
    try:
        return Code.get(name, consistent_read=True)
    except Code.DoesNotExist:
        return None
