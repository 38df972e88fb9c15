"""Rate limits: counters in Records against guessing and flooding.

    with rate_limits.count_attempt("password", user.id):     # raises TooManyRequests, before the password is checked
        ...                                                  # stays counted if this is refused; otherwise it is given back

    with rate_limits.give_back_unless_refused() as counted:  # the same for several counters
        counted.append(rate_limits.count("sign_in", name))
        ...

    rate_limits.count("stream", user.id)                     # counted whether it succeeds or not

An attempt is counted before it is checked. One UpdateItem counts it, with the limit as its condition. So even simultaneous
attempts cannot exceed the limit in a window. A window is a fixed period of time, and its counter is an item with a TTL. If the
response of the UpdateItem is lost, one attempt may count twice.

Sign-ins are counted by name and address together, so that nobody can lock out a user from elsewhere. They are also counted by
address alone and by name alone, with higher limits: many people may share an address, and only attempts from many addresses lock a
name for all. A successful attempt is given back, so only failures add up. It does not clear the counters, because an attacker
could then reset them with an account of their own. Faults of AIDeer, AWS or WeChat are given back too, and so is a 429 of another
service: they say nothing about the attempt.

A locked name or address does not stop a name and address from which the user has signed in within KNOWN_DAYS. Such a pair has only
its own limit.

Keys are HMACs, because a table and its backups should hold no addresses and no typed names. A plain hash of an IPv4 address can be
reversed by trying all addresses.

An IPv6 address counts as its /64, the least that a caller has (RFC 6177). It also counts as its /56 and its /48, which one
customer can have too. Their limits are 2 and 4 times that of a /64, because neighbours may share them. An attempt that the /64
refuses does not count for the wider networks, so a single caller cannot exhaust them.

If DynamoDB does not respond, the attempt is refused with 503, because the guarded data could not be read either. Only streams are
then allowed (stream_access.py): their limit protects the service, and no secret depends on it.
"""

import base64
import contextlib
import hashlib
import hmac
import ipaddress
import json
from collections.abc import Container, Iterator
from typing import NamedTuple

from pynamodb.exceptions import PynamoDBException, UpdateError
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action

from aideer.core import aws, aws_errors, clock, metrics
from aideer.core.errors import AideerError, TooManyRequests
from aideer.core.logs import logger
from aideer.data import lookup
from aideer.data.models import Record
from aideer.data.transactions import Transaction
from aideer.security import limits
from aideer.security.limits import LIMITS, Kind

ANSWERS: tuple[Kind, ...] = ("answer", "answer_day")
"""The limits of the answers that a user asks for. Only accepted tasks count, in the transaction of their hold."""
KNOWN_DAYS = 30


class Network(NamedTuple):
    """A network of an address, and the factor by which its limits are higher."""

    text: str
    share: int


_WIDER = ((56, 2), (48, 4))
UNKNOWN = "unknown"
"""All addresses that cannot be parsed count as this one."""


class Counted(NamedTuple):
    """The key of a counter that has counted an attempt, to give it back."""

    pk: str
    sk: str


def count(kind: Kind, *who: str, share: int = 1, amount: int = 1) -> Counted:
    """Count an attempt, and return it to give back. Raises TooManyRequests.

    The parts of `who` (user id, network, name …) together are one counter. `share` multiplies the limit. `amount` is by how much
    the counter grows, so the last attempt below the limit may exceed it.
    """
    counted, actions, condition, retry_after = _window(kind, *who, share=share, amount=amount)
    try:
        Record(*counted).update(actions, condition)
    except UpdateError as error:
        if not aws_errors.is_refusal(error):
            raise
        metrics.emit({"Throttles": 1}, kind=kind)
        raise limits.refusal(kind, retry_after) from None
    return counted


def count_in(transaction: Transaction, kind: Kind, *who: str) -> None:
    """Count in a transaction, which happens only below the limit. Its refusal has the step `kind`."""
    counted, actions, condition, _ = _window(kind, *who)
    transaction.update(kind, Record(*counted), actions, condition)


def refusal(kind: Kind) -> TooManyRequests:
    """Return the error of a transaction that `count_in` refused."""
    metrics.emit({"Throttles": 1}, kind=kind)
    seconds = LIMITS[kind].seconds
    return limits.refusal(kind, seconds - int(clock.now()) % seconds)


def _window(kind: Kind, *who: str, share: int = 1, amount: int = 1) -> tuple[Counted, list[Action], Condition, int]:
    """Return the counter of the current window, the change that counts, its condition, and the seconds to the window's end."""
    limit, now = LIMITS[kind], int(clock.now())
    window = now - now % limit.seconds
    ends = window + limit.seconds
    # The TTL is later than the end: an attempt counted just before the end can be given back after it.
    actions: list[Action] = [Record.uses.add(amount), Record.ttl.set(ends + limit.seconds)]
    condition = Record.uses.does_not_exist() | (Record.uses < limit.times * share)
    return Counted(f"throttle#{kind}#{_hash(*who)}", str(window)), actions, condition, ends - now


def count_networks(kind: Kind, address: str) -> Iterator[Counted]:
    """Count an attempt for each network of an address, as the iteration proceeds. Raises TooManyRequests."""
    for network in list_networks(address):
        yield count(kind, network.text, share=network.share)


def give_back(*counted: Counted) -> None:
    """Subtract these attempts from their counters.

    If DynamoDB fails, log it and go on: then the attempts stay counted, and the caller is neither delayed nor refused.
    """
    for attempt in counted:
        try:
            Record(*attempt).update([Record.uses.add(-1)], Record.uses > 0)
        except PynamoDBException as error:
            logger.warning("throttle", extra={"error": type(error).__name__})


@contextlib.contextmanager
def count_attempt(kind: Kind, *who: str, guesses: Container[str] | None = None) -> Iterator[None]:
    """Count the attempt that the `with` block makes. It stays counted only if it is refused.

    Raises TooManyRequests before the block runs. A fault is no refusal, whether ours or another's: otherwise an outage of WeChat
    would lock addresses out for the next window. Only refusals with the codes in `guesses` count, by default all refusals.
    """
    with give_back_unless_refused(guesses) as counted:
        counted.append(count(kind, *who))
        yield


@contextlib.contextmanager
def count_attempt_from(kind: Kind, address: str, *, successes_too: bool = False) -> Iterator[None]:
    """Count the attempt for each network of an address, as `attempt` does.

    With `successes_too`, only a fault is given back.
    """
    with give_back_unless_refused(successes_too=successes_too) as counted:
        for one in count_networks(kind, address):
            counted.append(one)
        yield


@contextlib.contextmanager
def give_back_unless_refused(
    guesses: Container[str] | None = None, *, successes_too: bool = False
) -> Iterator[list[Counted]]:
    """Yield a list for counted attempts, and give all of them back unless the block is refused.

    If one of our own counters refuses, the attempts counted before it stay counted.
    """
    counted: list[Counted] = []
    try:
        yield counted
    except Exception as error:
        if not _is_refusal(error, guesses):
            give_back(*counted)
        raise
    if not successes_too:
        give_back(*counted)


def _is_refusal(error: Exception, guesses: Container[str] | None) -> bool:
    if isinstance(error, TooManyRequests):
        return error.code == limits.DEFAULT_REFUSAL[0]  # a 429 of another service says nothing about the attempt
    return isinstance(error, AideerError) and error.status < 500 and (guesses is None or error.code in guesses)


def remember(*who: str) -> None:
    """Record a pair: a name, and an address from which its user has signed in."""
    try:
        Record(*_known_key(*who), ttl=int(clock.now()) + KNOWN_DAYS * 86400).save()
    except PynamoDBException as error:
        logger.warning("throttle", extra={"error": type(error).__name__})


def is_remembered(*who: str) -> bool:
    """Return whether this pair was recorded within KNOWN_DAYS."""
    record = lookup.find(Record, *_known_key(*who))
    return record is not None and bool(record.ttl > clock.now())


def normalize_address(address: str) -> str:
    """Return the form in which an address is counted: an IPv4 address as it is, an IPv6 address as its /64.

    An IPv6 address that maps an IPv4 address counts as that one. Anything that is no address counts as UNKNOWN.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return UNKNOWN
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed), 64), strict=False))


def list_networks(address: str) -> list[Network]:
    """Return the networks of an address in the form of `source`, the narrowest first."""
    own = [Network(address, 1)]
    try:
        parsed = ipaddress.IPv6Network(address)
    except ValueError:
        return own
    return own + [Network(str(parsed.supernet(new_prefix=length)), share) for length, share in _WIDER]


def _known_key(*who: str) -> tuple[str, str]:
    return f"known#{_hash(*who)}", "known"


def _hash(*who: str) -> str:
    text = f"throttle {json.dumps(who)}"  # no token's signed text begins so, so both can safely share one key
    digest = hmac.digest(aws.read_signing_keys()[0].encode(), text.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest[:18]).decode()
