"""How often something may be tried: counters in Records, for whoever guesses or floods.

    with throttling.attempt("password", user.id):    # raises TooManyRequests, before what is counted is looked at
        ...                                          # a refusal that leaves here stays counted, and nothing else does

    with throttling.counting() as counted:           # the same for several counters
        counted.append(throttling.count("sign_in", name))
        ...

    throttling.count("stream", user.id)              # counted whatever it comes to

An attempt is counted before it is checked, by one UpdateItem whose condition is the limit: however many come at once, no more
than the limit get through in a window. A window is a fixed stretch of time, and its counter is an item that goes when it is over.
An answer that was lost can make one attempt count twice.

Who signs in is counted by name and address, so that nobody else's failures lock them out, and by either alone, where the limits
are higher: of one address many people may come, and of one name many addresses are needed before it is locked for all. What was
right is given back, so only failures add up; the counters are not cleared by it, or one's own account would buy guesses at others.
A fault of ours, of AWS or of WeChat is given back too, and so is another's 429: they say nothing about what was tried.
And where a name or an address is locked for all, it is not for a name and an address from which its user has signed in within
KNOWN_DAYS: such a pair has its own limit alone.

Keys are HMACs: a table and its backups should hold nobody's address or what was typed as a name, and a plain hash of an IPv4
address is undone by trying all of them.

An IPv6 address counts as its /64, the least that a caller has (RFC 6177), and also as its /56 and its /48, which one customer can
have too. Their limits are 2 and 4 times the one of a /64, because neighbours may share them. An attempt that the /64 refuses does
not count for the wider networks, so that one caller alone cannot exhaust them.

Where DynamoDB does not answer, nothing is let through (the caller is told 503): what is guarded could not be read either. Streams
alone are let through (tasks/stream.py): they are counted to spare the service, and guard no secret.
"""

import base64
import contextlib
import hashlib
import hmac
import ipaddress
import json
from collections.abc import Container, Iterator
from typing import Annotated, Literal, NamedTuple

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import Depends, Request
from pynamodb.exceptions import PynamoDBException, UpdateError

from aideer import aws, clock, dynamodb, metrics, settings
from aideer.errors import AideerError, TooManyRequests
from aideer.models import Record

Kind = Literal[
    "sign_in",
    "sign_in_address",
    "sign_in_name",
    "sign_up",
    "wechat",
    "wechat_refresh",
    "password",
    "name",
    "link",
    "redeem",
    "stream",
    "estimate",
]


class Limit(NamedTuple):
    """So many in so many seconds."""

    times: int
    seconds: int


DEFAULTS: dict[Kind, Limit] = {
    "sign_in": Limit(10, 900),  # wrong passwords, of one name from one address
    "sign_in_address": Limit(300, 900),  # wrong passwords, from one address: a school or a carrier may have but one
    "sign_in_name": Limit(100, 900),  # wrong passwords, of one name from anywhere
    "sign_up": Limit(100, 3600),  # new users, from one address
    "wechat": Limit(300, 900),  # refused codes, from one address
    "wechat_refresh": Limit(30, 900),  # refreshes of WeChat sessions, of one user, whatever they came to
    "password": Limit(10, 900),  # wrong passwords that confirm something, of one user
    "name": Limit(10, 900),  # names that were taken, of one user
    "link": Limit(10, 900),  # identities that could not be linked, of one user
    "redeem": Limit(20, 3600),  # codes that brought nothing, of one user
    "stream": Limit(120, 60),  # streams from their beginning, of one user
    "estimate": Limit(30, 60),  # prompts whose tokens are counted, of one user; beyond it their bytes count
}
"""What the environment's THROTTLES does not say otherwise: `redeem=20/3600 stream=300/60`."""

KNOWN_DAYS = 30

logger = Logger(service="aideer")


class Network(NamedTuple):
    """A network that an address is in, and how many times a limit it may use."""

    text: str
    share: int


_WIDER = ((56, 2), (48, 4))
UNKNOWN = "unknown"
"""What an address counts as that cannot be parsed: all of them together."""


class Counted(NamedTuple):
    """An attempt that was counted, to give back."""

    pk: str
    sk: str


def count(kind: Kind, *who: str, share: int = 1) -> Counted:
    """Count an attempt of whom it is about (user id, network, name …), all parts together. Raises TooManyRequests.

    `share` is how many times the limit they may use.
    """
    limit, now = LIMITS[kind], int(clock.now())
    window = now - now % limit.seconds
    counted = Counted(f"throttle#{kind}#{_hidden(*who)}", str(window))
    ends = window + limit.seconds
    try:
        Record(*counted).update(
            # The TTL is later than the end: what was counted a moment before it can be given back after it.
            [Record.uses.add(1), Record.ttl.set(ends + limit.seconds)],
            Record.uses.does_not_exist() | (Record.uses < limit.times * share),
        )
    except UpdateError as error:
        if not dynamodb.refused(error):
            raise
        metrics.emit({"Throttles": 1}, kind=kind)
        raise TooManyRequests(
            "too_many_attempts", "Too many attempts. Try again later.", retry_after=ends - now
        ) from None
    return counted


def count_networks(kind: Kind, address: str) -> Iterator[Counted]:
    """Count an attempt for each network that an address is in, as it is iterated over. Raises TooManyRequests."""
    for network in networks(address):
        yield count(kind, network.text, share=network.share)


def give_back(*counted: Counted) -> None:
    """Have these attempts not count. Nobody is kept waiting or refused for a failure of it: then they do count."""
    for attempt in counted:
        try:
            Record(*attempt).update([Record.uses.add(-1)], Record.uses > 0)
        except PynamoDBException as error:
            logger.warning("throttle", extra={"error": type(error).__name__})


@contextlib.contextmanager
def attempt(kind: Kind, *who: str, guesses: Container[str] | None = None) -> Iterator[None]:
    """Count what is done within; only where it is refused it stays counted. Raises TooManyRequests before it is done.

    A fault is no refusal, whosever it is: else WeChat's bad quarter of an hour would lock an address out for the next.
    `guesses` are the codes of the refusals that count; without it, all do.
    """
    with counting(guesses) as counted:
        counted.append(count(kind, *who))
        yield


@contextlib.contextmanager
def attempt_from(kind: Kind, address: str, *, successes_too: bool = False) -> Iterator[None]:
    """Count what is done within for each network that an address is in, as `attempt` does.

    With `successes_too`, only a fault is given back.
    """
    with counting(successes_too=successes_too) as counted:
        for one in count_networks(kind, address):
            counted.append(one)
        yield


@contextlib.contextmanager
def counting(guesses: Container[str] | None = None, *, successes_too: bool = False) -> Iterator[list[Counted]]:
    """Yield a list for what is counted within, and give all of it back unless what is done within is refused.

    A refusal of one of our own counters leaves counted what was counted before it.
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
        return error.code == "too_many_attempts"  # another's 429, such as WeChat's, says nothing about what was asked
    return isinstance(error, AideerError) and error.status < 500 and (guesses is None or error.code in guesses)


def remember(*who: str) -> None:
    """Note that these belong together: a name, and an address from which its user has signed in."""
    try:
        Record(*_known(*who), ttl=int(clock.now()) + KNOWN_DAYS * 86400).save()
    except PynamoDBException as error:
        logger.warning("throttle", extra={"error": type(error).__name__})


def remembered(*who: str) -> bool:
    """Whether these were noted to belong together within KNOWN_DAYS."""
    try:
        return bool(Record.get(*_known(*who), consistent_read=True).ttl > clock.now())
    except Record.DoesNotExist:
        return False


def source(address: str) -> str:
    """Return what an address counts as: itself, or an IPv6 address's /64. All that cannot be parsed count as one."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return UNKNOWN
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed), 64), strict=False))


def networks(address: str) -> list[Network]:
    """Return the networks that an address counts for, as `source` returned it, the narrowest first."""
    own = [Network(address, 1)]
    try:
        parsed = ipaddress.IPv6Network(address)
    except ValueError:
        return own
    return own + [Network(str(parsed.supernet(new_prefix=length)), share) for length, share in _WIDER]


def _address(request: Request) -> str:
    # What API Gateway saw. X-Forwarded-For says what the caller likes.
    return source(request.resolved_event.request_context.http.source_ip)  # type: ignore[attr-defined]


Address = Annotated[str, Depends(_address)]
"""Dependency: the address that a request came from, as it is counted."""


def limits(text: str) -> dict[Kind, Limit]:
    """The limits as THROTTLES changes them; `all=…` is for those that it does not name. Raises ValueError for other names."""
    given: dict[str, Limit] = {}
    for part in text.split():
        kind, _, limit = part.partition("=")
        times, _, seconds = limit.partition("/")
        given[kind] = Limit(int(times), int(seconds))
    if unknown := given.keys() - {"all", *DEFAULTS}:
        raise ValueError(f"THROTTLES: {', '.join(sorted(unknown))}")
    return {kind: given.get(kind, given.get("all", default)) for kind, default in DEFAULTS.items()}


def _known(*who: str) -> tuple[str, str]:
    return f"known#{_hidden(*who)}", "known"


def _hidden(*who: str) -> str:
    text = f"throttle {json.dumps(who)}"  # no token's text begins so: one key for both is no danger
    digest = hmac.digest(aws.signing_keys()[0].encode(), text.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest[:18]).decode()


LIMITS = limits(settings.THROTTLES)
