"""Tickets: what a website's page is handed in its address after a sign-in, and exchanges for tokens. Once, and within a minute.

Tokens themselves must not stand in an address, where histories and logs keep them. A ticket is random, and stored as its hash
only. Whoever deletes its record, in one transaction with the condition that it is there and in time, has the tokens.
"""

import hashlib
import secrets

from aideer import auth, clock
from aideer.contract.sessions import Tokens
from aideer.errors import Unauthorized
from aideer.models import Record, User
from aideer.transactions import Refused, Transaction

SECONDS = 60
_KIND = "sign_in"


def issue(user: User, openid: str) -> str:
    """A ticket for this user, as they are signed in now."""
    ticket = secrets.token_urlsafe(32)
    said = {"sub": user.id, "ver": user.token_version, "openid": openid}
    Record(_pk(ticket), _KIND, data=said, ttl=int(clock.now()) + SECONDS).save()
    return ticket


def exchange(ticket: str) -> Tokens:
    """Tokens for a ticket. Raises Unauthorized where it is unknown, used or too old, or its user is signed out or gone."""
    try:
        record = Record.get(_pk(ticket), _KIND, consistent_read=True)
        transaction = Transaction()
        transaction.delete("ticket", record, Record.pk.exists() & (Record.ttl > int(clock.now())))
        transaction.commit()
    except (Record.DoesNotExist, Refused):
        raise Unauthorized("ticket_invalid", "This ticket is unknown, used or too old. Sign in once more.") from None
    return Tokens(**auth.token_pair(auth.holder(record.data), "wechat", record.data["openid"]))


def _pk(ticket: str) -> str:
    return f"ticket#{hashlib.sha256(ticket.encode()).hexdigest()}"
