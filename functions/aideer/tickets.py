"""Tickets: what a website's page is handed in its address after a sign-in, and exchanges for tokens. Once, and within a minute.

Tokens themselves must not stand in an address, where histories and logs keep them. A ticket is random, and stored as its hash
only. Whoever deletes its record, in one transaction with the condition that it is there and in time, has the tokens.

A ticket is bound to the page that began the sign-in by PKCE (RFC 7636, S256): the page keeps a random verifier, and the sign-in
carried its hash, the challenge. So a page that is handed somebody else's ticket cannot exchange it.
"""

import base64
import hashlib
import hmac
import secrets

from aideer import auth, clock
from aideer.contract.sessions import Tokens
from aideer.errors import Unauthorized
from aideer.models import Record, User
from aideer.transactions import Refused, Transaction

SECONDS = 60
_KIND = "sign_in"


def issue(user: User, openid: str, challenge: str | None = None) -> str:
    """A ticket for this user, as they are signed in now; with a challenge, for the holder of its verifier alone."""
    ticket = secrets.token_urlsafe(32)
    said = {"sub": user.id, "ver": user.token_version, "openid": openid, "auth_time": int(clock.now())}
    if challenge:
        said["challenge"] = challenge
    Record(_pk(ticket), _KIND, data=said, ttl=int(clock.now()) + SECONDS).save()
    return ticket


def exchange(ticket: str, verifier: str | None = None) -> Tokens:
    """Tokens for a ticket.

    Raises Unauthorized where it is unknown, used or too old, or the verifier is not that of its challenge, and InvalidToken where
    its user is signed out or gone. A wrong verifier does not use the ticket up.
    """
    try:
        record = Record.get(_pk(ticket), _KIND, consistent_read=True)
        if not _is_verified(record.data.get("challenge"), verifier):
            raise _invalid()
        transaction = Transaction()
        transaction.delete("ticket", record, Record.pk.exists() & (Record.ttl > int(clock.now())))
        transaction.commit()
    except (Record.DoesNotExist, Refused):
        raise _invalid() from None
    said = record.data
    return Tokens(**auth.token_pair(auth.holder(said), "wechat", said["openid"], said.get("auth_time")))


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a verifier (RFC 7636, section 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def _is_verified(challenge: str | None, verifier: str | None) -> bool:
    if challenge is None or verifier is None:
        # One without the other would let a sign-in do without PKCE (RFC 9700, section 2.1.1). Tickets of 0.1.0 have no challenge.
        return challenge is verifier
    return hmac.compare_digest(challenge_of(verifier), challenge)


def _invalid() -> Unauthorized:
    return Unauthorized(
        "ticket_invalid", "This ticket is unknown, used, too old, or another page's. Sign in once more."
    )


def _pk(ticket: str) -> str:
    return f"ticket#{hashlib.sha256(ticket.encode()).hexdigest()}"
