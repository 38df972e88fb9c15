"""Credits from outside: from redeem codes and from administrators. The rules of credits.py hold here too (I1, I2, I5).

One transaction redeems a code. It changes the user's credits and ledger, raises the code's count under its limit, and writes the
one record of (user, code). A code that is revoked or expired at the write gives no credits, even if it was valid when it was read.

A rate limit stops users that guess codes (rate_limits.py). Every attempt counts before the code is read. It stays counted if the
code was the reason for the refusal.
"""

import functools
import operator

from pynamodb.expressions.condition import Condition

from aideer.billing import credits
from aideer.core import clock
from aideer.core.errors import Busy, NotFound, PaymentRequired, Unprocessable
from aideer.data import lookup
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import Code, CreditEntry, Record, User
from aideer.data.retry import attempts
from aideer.data.transactions import Refused, Transaction
from aideer.schemas.credits import NewGrant
from aideer.security import audit_trail, rate_limits

_GUESSES = frozenset({"code_unknown", "code_already_redeemed", "code_revoked", "code_expired", "code_used_up"})


def redeem(user: User, code_text: str, request: IdempotentRequest) -> dict[str, object]:
    """Redeem a code for this user and return {message, value, credits_left}, in credits.

    Raises Unprocessable if the code is unknown, used up, revoked, expired, or already redeemed by this user. Raises
    TooManyRequests after too many of these refusals, and Busy.
    """
    if answer := request.find_answer():  # a repeated request is no guess
        return answer
    with rate_limits.count_attempt("redeem", user.id, guesses=_GUESSES):
        return _redeem(user, code_text, request)


def grant(user_id: str, new: NewGrant, admin: User, request: IdempotentRequest) -> dict[str, object]:
    """Give credits to a user, or deduct some that no task holds. Return {message, amount, credits_left}, in credits.

    Raises NotFound, PaymentRequired if the user has fewer credits than are to be deducted, and Busy.
    """
    for _ in attempts():
        if answer := request.find_answer():
            return answer
        try:
            user = lookup.get_user(user_id)
            left = _left(user, new.amount)
        except (NotFound, PaymentRequired) as refusal:
            if answer := request.find_answer():  # this request's own first attempt may have caused the refusal
                return answer
            if isinstance(refusal, PaymentRequired) and audit_trail.must_record(admin, user_id):
                audit_trail.record(admin, "user.read", user_id)  # the error reveals the user's credits
            raise
        message = "Granted." if new.amount > 0 else "Deducted."
        answer = {"message": message, "amount": new.amount, "credits_left": left}
        entry = credits.new_entry(user.id, new.amount, "grant", new.description)
        entry.granted_by = admin.id
        transaction = Transaction()
        _add(transaction, user, entry)
        audit_trail.record_in(transaction, admin, "user.grant", user.id)
        request.store_in(transaction, answer)
        if _try_commit(transaction, entry):
            return answer
    raise Busy


def _left(user: User, amount: int) -> int:
    left = int(user.credits) + amount
    if left < 0:
        raise PaymentRequired(
            "insufficient_credits",
            "The user has fewer credits than this amount.",
            credits_left=int(user.credits),
            credits_needed=-amount,
        )
    return left


def _redeem(user: User, code_text: str, request: IdempotentRequest) -> dict[str, object]:
    for _ in attempts():
        try:
            code = _get_redeemable(user, code_text)
        except Unprocessable:
            if answer := request.find_answer():  # this request's own first attempt may have caused the refusal
                return answer
            raise
        answer = {"message": "Redeemed.", "value": code.value, "credits_left": user.credits + code.value}
        entry = credits.new_entry(user.id, code.value, "redeem", code.description or "Redeem code")
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
        redemption = Record(credits.redemptions_key(code.code), user.id, data={"entry_id": entry.entry_id})
        transaction.put("redemption", redemption, Record.pk.does_not_exist())
        request.store_in(transaction, answer)
        if _try_commit(transaction, entry):
            return answer
        user = lookup.reread_user(user)
        if first := request.find_answer():
            return first
    raise Busy


def _add(transaction: Transaction, user: User, entry: CreditEntry, *conditions: Condition) -> None:
    unmoved = User.id.exists() & (User.money_version == user.money_version)
    transaction.update(
        "user",
        User(user.id),
        [User.credits.add(entry.amount), User.money_version.add(1)],
        # The user must be unchanged since the read, so that credits_left is exact and credits never fall below 0.
        functools.reduce(operator.and_, conditions, User.deleted.does_not_exist() & unmoved),
    )
    transaction.put("entry", entry)


def _try_commit(transaction: Transaction, entry: CreditEntry) -> bool:
    try:
        transaction.commit(proof=lambda: lookup.exists(entry))
    except Refused:
        return False
    return True


def _get_redeemable(user: User, code_text: str) -> Code:
    code = lookup.find(Code, code_text.upper())
    if code is None:
        raise Unprocessable("code_unknown", "There is no such code.")
    if lookup.exists(Record(credits.redemptions_key(code.code), user.id)):
        raise Unprocessable("code_already_redeemed", "You have redeemed this code before.")
    if code.revoked:
        raise Unprocessable("code_revoked", "This code was revoked.")
    if code.expires_at and code.expires_at <= clock.timestamp():
        raise Unprocessable("code_expired", "This code has expired.")
    if code.used >= code.max_uses:
        raise Unprocessable("code_used_up", "This code has been used up.")
    return code
