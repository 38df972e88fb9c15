"""The table of rate limits: how many times something may be done in how many seconds, and how a refusal names the limit.

rate_limits.py counts most of them. Slots (tasks/slots.py) hold the places of followers and polls: there, the number is how many
may be open at one time, and the seconds are how long a place stays taken after its holder was last heard of. `read`, `write`
and `shared_read` are in kilobytes (security/budgets.py).

The parameter THROTTLES overrides entries by name: `redeem=20/3600 stream=300/60`.
"""

from typing import Literal, NamedTuple

from aideer.core import settings
from aideer.core.errors import Detail, TooManyRequests

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
    "hash",
    "redeem",
    "stream",
    "resume",
    "follow_task",
    "follow",
    "poll",
    "ask",
    "estimate",
    "answer",
    "answer_day",
    "stop",
    "avatar",
    "copy",
    "replace",
    "delete_chats",
    "preset",
    "upload",
    "upload_size",
    "search",
    "read",
    "write",
    "share",
    "shared",
    "shared_read",
    "feedback",
    "key",
]


class Limit(NamedTuple):
    """A rate limit: `times` attempts in `seconds` seconds."""

    times: int
    seconds: int


DEFAULTS: dict[Kind, Limit] = {
    "sign_in": Limit(10, 900),  # wrong passwords, of one name from one address
    "sign_in_address": Limit(300, 900),  # wrong passwords, from one address: a school or a carrier may have only one
    "sign_in_name": Limit(100, 900),  # wrong passwords, of one name from anywhere
    "sign_up": Limit(100, 3600),  # new users, from one address
    "wechat": Limit(300, 900),  # refused codes, from one address
    "wechat_refresh": Limit(30, 900),  # refreshes of WeChat sessions, of one user, successful or not
    "password": Limit(10, 900),  # wrong passwords that confirm something, of one user
    "name": Limit(10, 900),  # names that were taken, of one user
    "link": Limit(10, 900),  # identities that could not be linked, of one user
    "hash": Limit(30, 900),  # passwords that are hashed for a signed-in user, right, wrong or new
    "redeem": Limit(20, 3600),  # refused redeem codes, of one user
    "stream": Limit(120, 60),  # streams from their beginning, of one user
    "resume": Limit(120, 60),  # streams from a position, of one user; polls have `poll`
    "follow_task": Limit(3, 60),  # followers of one task at one time
    "follow": Limit(10, 60),  # followers of one user at one time
    "poll": Limit(3, 30),  # polls of one user at one time
    "ask": Limit(60, 60),  # quotes and refused asks, of one user: each reads and prices a prompt
    "estimate": Limit(30, 60),  # prompts whose tokens are counted, of one user; above it, their bytes count
    "answer": Limit(20, 60),  # accepted tasks, of one user
    "answer_day": Limit(1000, 86400),  # the same in a day (UTC)
    "stop": Limit(30, 60),  # stops, of one user
    "avatar": Limit(30, 3600),  # new avatar images, of one user: each is decoded and drawn anew
    "copy": Limit(30, 3600),  # copies of chats, of one user
    "replace": Limit(30, 3600),  # replacements of a chat's messages, of one user
    "delete_chats": Limit(10, 3600),  # deletions of all chats, of one user
    "preset": Limit(30, 3600),  # new presets and new versions, of one user
    "upload": Limit(200, 86400),  # new uploads, of one user
    "upload_size": Limit(500_000, 86400),  # kilobytes of new uploads, of one user
    "search": Limit(60, 60),  # pages of searches, of one user
    "read": Limit(250_000, 3600),  # kilobytes of pages, exports and lists, of one user
    "write": Limit(100_000, 3600),  # kilobytes of changes of chats, messages, likes and settings, of one user
    "share": Limit(30, 3600),  # new share links, of one user: each reads a chat
    "shared": Limit(120, 60),  # requests of share links, from one address
    "shared_read": Limit(250_000, 3600),  # kilobytes that the share links of one user send to strangers
    "feedback": Limit(300, 3600),  # changes of feedback on answers, of one user
    "key": Limit(30, 3600),  # new API keys, of one user: a revoked one stays as a tombstone
}
"""The limits that THROTTLES does not override."""

REFUSALS: dict[Kind, tuple[str, str]] = {
    "hash": ("too_many_passwords", "You may send {times} passwords {each}."),
    "stream": ("too_many_attempts", "You may open {times} streams from their start {each}."),
    "resume": ("too_many_resumptions", "You may resume streams {times} times {each}."),
    "poll": ("too_many_polls", "You may have {times} polls that wait at one time. Wait for the end of one."),
    "ask": ("too_many_asks", "You may ask for {times} prices {each}, refused questions included."),
    "answer": ("too_many_answers", "You may ask for {times} answers {each}."),
    "answer_day": ("too_many_answers", "You may ask for {times} answers {each}."),
    "stop": ("too_many_stops", "You may stop {times} answers {each}."),
    "avatar": ("too_many_avatars", "You may change your picture {times} times {each}."),
    "copy": ("too_many_copies", "You may copy {times} chats {each}."),
    "replace": ("too_many_replacements", "You may replace the messages of chats {times} times {each}."),
    "delete_chats": ("too_many_deletions", "You may delete all of your chats {times} times {each}."),
    "preset": ("too_many_preset_changes", "You may make and change {times} presets {each}."),
    "upload": ("too_many_uploads", "You may upload {times} files {each}."),
    "upload_size": ("too_many_uploads", "You may upload {times} kilobytes {each}."),
    "search": ("too_many_searches", "You may search {times} times {each}."),
    "read": ("too_much_reading", "You may read {times} kilobytes {each}."),
    "write": ("too_much_writing", "You may change {times} kilobytes {each}."),
    "share": ("too_many_new_shares", "You may make {times} links {each}."),
    "shared": ("too_many_link_requests", "You may read links {times} times {each}."),
    "feedback": ("too_much_feedback", "You may rate answers {times} times {each}."),
    "key": ("too_many_new_keys", "You may make {times} API keys {each}."),
    "shared_read": ("too_many_readers", "The links of one user may send {times} kilobytes {each}."),
}
"""The code and the text of each limit's refusal. The others are limits of guesses: DEFAULT_REFUSAL, which names no limit."""
DEFAULT_REFUSAL = ("too_many_attempts", "Too many attempts. Try again later.")
_EACH = {60: Detail("a minute"), 3600: Detail("an hour"), 86400: Detail("a day")}


def refusal(kind: Kind, retry_after: float) -> TooManyRequests:
    """Return the refusal of a limit, with the seconds after which the caller may try again."""
    code, text = REFUSALS.get(kind, DEFAULT_REFUSAL)
    limit = LIMITS[kind]
    each = _EACH.get(limit.seconds) or Detail("in {seconds} seconds", seconds=limit.seconds)
    return TooManyRequests(code, Detail(text, times=limit.times, each=each), retry_after=max(1, int(retry_after)))


def parse_limits(text: str) -> dict[Kind, Limit]:
    """Return the limits, overridden by the text of THROTTLES.

    The entry `all=…` is for all limits that the text does not name. Raises ValueError for unknown names.
    """
    given: dict[str, Limit] = {}
    for part in text.split():
        kind, _, limit = part.partition("=")
        times, _, seconds = limit.partition("/")
        given[kind] = Limit(int(times), int(seconds))
    if unknown := given.keys() - {"all", *DEFAULTS}:
        raise ValueError(f"THROTTLES: {', '.join(sorted(unknown))}")
    return {kind: given.get(kind, given.get("all", default)) for kind, default in DEFAULTS.items()}


LIMITS = parse_limits(settings.THROTTLES)
