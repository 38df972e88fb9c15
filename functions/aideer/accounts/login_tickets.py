"""Login tickets: after a sign-in, a website's page gets a ticket in its address, and exchanges it for tokens.

A ticket works once, and within a minute. Tokens must not be in an address, because histories and logs keep addresses. A ticket
is random, and only its hash is stored. The exchange deletes its record in a transaction, which requires that the record is
stored and has not expired. So only one exchange returns tokens.

PKCE (RFC 7636, S256) binds a ticket to the page that began the sign-in. The page keeps a random verifier, and the sign-in carries
its hash, the challenge. So a page that receives another page's ticket cannot exchange it.
"""

import base64
import hashlib
import hmac
import secrets

from aideer.accounts import devices
from aideer.core import clock
from aideer.core.errors import InvalidToken, Unauthorized
from aideer.data import lookup
from aideer.data.models import Record, User
from aideer.data.transactions import Refused, Transaction
from aideer.schemas.sessions import TokensResponse

SECONDS = 60
_KIND = "sign_in"


def issue(user: User, openid: str, challenge: str | None = None) -> str:
    """Return a ticket for this user's current session. With a challenge, only the holder of its verifier can exchange it."""
    ticket = secrets.token_urlsafe(32)
    said = {"sub": user.id, "ver": user.token_version, "openid": openid, "auth_time": int(clock.now())}
    if challenge:
        said["challenge"] = challenge
    Record(_pk(ticket), _KIND, data=said, ttl=int(clock.now()) + SECONDS).save()
    return ticket


def exchange(ticket: str, verifier: str | None = None, device: str | None = None) -> TokensResponse:
    """Return tokens of a new session for a ticket. `device` is the name of the device.

    Raises Unauthorized if the ticket is unknown, used or expired, or if the verifier does not match its challenge. Raises
    InvalidToken if its user is signed out or deleted. A wrong verifier does not use the ticket up.
    """
    record = lookup.find(Record, _pk(ticket), _KIND)
    if record is None or not _is_verified(record.data.get("challenge"), verifier):
        raise _invalid_ticket()
    transaction = Transaction()
    transaction.delete("ticket", record, Record.pk.exists() & (Record.ttl > int(clock.now())))
    try:
        transaction.commit()
    except Refused:
        raise _invalid_ticket() from None
    said = record.data
    user = lookup.find(User, said["sub"])
    if user is None:
        raise InvalidToken
    return devices.begin(
        user, "wechat", device, openid=said["openid"], auth_time=said.get("auth_time"), version=said["ver"]
    )


def compute_challenge(verifier: str) -> str:
    """Return the S256 challenge of a verifier (RFC 7636, section 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def _is_verified(challenge: str | None, verifier: str | None) -> bool:
    if challenge is None or verifier is None:
        # Refuse one without the other: it would bypass PKCE (RFC 9700, section 2.1.1). Tickets of 0.1.0 have no challenge.
        return challenge is verifier
    return hmac.compare_digest(compute_challenge(verifier), challenge)


def _invalid_ticket() -> Unauthorized:
    return Unauthorized("ticket_invalid", "This ticket is unknown, expired, used, or from another page. Sign in again.")


def _pk(ticket: str) -> str:
    return f"ticket#{hashlib.sha256(ticket.encode()).hexdigest()}"
