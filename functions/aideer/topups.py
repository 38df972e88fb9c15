"""Credits that come from outside, by redeem codes and from administrators. The rules of credits.py hold here too (I1, I2, I5).

A code is redeemed in one transaction: the user's credits and ledger, the code's count under its limit, and the record (user,
code), of which there is one. A code that is revoked or has expired at the write brings nothing, whatever was read before. Who
guesses codes is stopped (throttling.py): every attempt counts before the code is looked at, and stays counted if it is refused for
its code.
"""

import functools
import operator
import time

from pynamodb.expressions.condition import Condition

from aideer import auth, clock, credits, throttling, trail, users
from aideer.contract.credits import NewGrant
from aideer.errors import Busy, NotFound, PaymentRequired, Unprocessable
from aideer.idempotency import Once
from aideer.models import Code, CreditEntry, Record, User
from aideer.transactions import PATIENCE_SECONDS, Refused, Transaction

_GUESSES = frozenset({"code_unknown", "code_already_redeemed", "code_revoked", "code_expired", "code_used_up"})


def redeem(user: User, code_text: str, once: Once) -> dict[str, object]:
    """Redeem a code for this user: {message, value, credits_left}.

    Raises Unprocessable where the code is unknown, used up, revoked, expired, or was redeemed by this user before, and
    TooManyRequests after too many of those.
    """
    if answer := once.answer():  # a request that is repeated is no guess
        return answer
    with throttling.attempt("redeem", user.id, guesses=_GUESSES):
        return _redeemed(user, code_text, once)


def grant(user_id: str, new: NewGrant, admin: User, once: Once) -> dict[str, object]:
    """Give credits to a user, or take some of those that no task holds: {message, amount, credits_left}.

    Raises NotFound, and PaymentRequired where the user has fewer than are to be taken.
    """
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up_at:
        if answer := once.answer():
            return answer
        try:
            user = users.stored(user_id)
            left = _left(user, new.amount)
        except (NotFound, PaymentRequired) as refusal:
            if answer := once.answer():  # the refusal was the echo of this very request's first attempt
                return answer
            if isinstance(refusal, PaymentRequired) and trail.concerns(admin, user_id):
                trail.record(admin, "user.read", user_id)  # it says how many credits they have
            raise
        message = "Granted." if new.amount > 0 else "Deducted."
        answer = {"message": message, "amount": new.amount, "credits_left": left}
        entry = credits.entry(user.id, new.amount, "grant", new.description)
        entry.granted_by = admin.id
        transaction = Transaction()
        if user.id == admin.id and not auth.is_admin(user):
            raise auth.no_admin_now(admin)
        _add(
            transaction, user, entry, User.permission == user.permission
        )  # which is an administrator's, if it is their own
        trail.record_in(transaction, admin, "user.grant", user.id)
        once.join(transaction, answer)
        if _happened(transaction, entry):
            return answer
    raise Busy


def _left(user: User, amount: int) -> int:
    left = int(user.credits) + amount
    if left < 0:
        raise PaymentRequired(
            "insufficient_credits",
            "The user has fewer credits than that.",
            credits_left=int(user.credits),
            credits_needed=-amount,
        )
    return left


def _redeemed(user: User, code_text: str, once: Once) -> dict[str, object]:
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up_at:
        try:
            code = _redeemable(user, code_text)
        except Unprocessable:
            if answer := once.answer():  # the refusal was the echo of this very request's first attempt
                return answer
            raise
        answer = {"message": "Redeemed.", "value": code.value, "credits_left": user.credits + code.value}
        entry = credits.entry(user.id, code.value, "redeem", code.description or "Redeem code")
        entry.code = code.code
        transaction = Transaction()
        _add(transaction, user, entry)
        transaction.update(
            "code",
            Code(code.code),
            [Code.used.add(1)],
            (Code.used < Code.max_uses)
            & Code.revoked.does_not_exist()
            & (Code.expires_at.does_not_exist() | (Code.expires_at > clock.timestamp())),
        )
        redemption = Record(credits.redemptions(code.code), user.id, data={"entry_id": entry.entry_id})
        transaction.put("redemption", redemption, Record.pk.does_not_exist())
        once.join(transaction, answer)
        if _happened(transaction, entry):
            return answer
        user = credits.reread(user)
        if first := once.answer():
            return first
    raise Busy


def _add(transaction: Transaction, user: User, entry: CreditEntry, *conditions: Condition) -> None:
    unmoved = User.id.exists() & (User.money_version == user.money_version)
    transaction.update(
        "user",
        User(user.id),
        [User.credits.add(entry.amount), User.money_version.add(1)],
        # As it was read, so that what is answered as credits_left is exact, and none are taken that are not there.
        functools.reduce(operator.and_, conditions, User.deleted.does_not_exist() & unmoved),
    )
    transaction.put("entry", entry)


def _happened(transaction: Transaction, entry: CreditEntry) -> bool:
    try:
        transaction.commit(proof=lambda: credits.exists(entry))
    except Refused:
        return False
    return True


def _redeemable(user: User, code_text: str) -> Code:
    try:
        code = Code.get(code_text.upper(), consistent_read=True)
    except Code.DoesNotExist:
        raise Unprocessable("code_unknown", "There is no such code.") from None
    if credits.exists(Record(credits.redemptions(code.code), user.id)):
        raise Unprocessable("code_already_redeemed", "You have redeemed this code before.")
    if code.revoked:
        raise Unprocessable("code_revoked", "This code is no longer good.")
    if code.expires_at and code.expires_at <= clock.timestamp():
        raise Unprocessable("code_expired", "This code has expired.")
    if code.used >= code.max_uses:
        raise Unprocessable("code_used_up", "This code has been used up.")
    return code
