"""What one hostile user can cost an operator in a day: assumptions, arithmetic, and the table of docs/security.md.

`python -m local.operations.abuse` prints the table. The AWS prices are those of costs.py. The limits are the defaults of
aideer/security/limits.py and template.yaml.

Each row is the dearest request of its kind. Without a limit of the user, two things bound its number: the throttle of its route,
and the number of functions that an account runs at one time, because each request keeps one busy for some seconds.
"""

from dataclasses import dataclass

from local.operations.costs import PRICES

DAY = 86400
ROUTE = 500
"""Requests a second to one route: DefaultRouteSettings of template.yaml. All users share them."""
CONCURRENCY = 1_000
"""Functions that run at one time in an account whose limit was raised to the usual value. A new account has about 10."""
MB = 1_048_576


@dataclass(frozen=True)
class Request:
    """What the dearest request of a kind uses: seconds of a function with 1 GB, DynamoDB's units, and bytes to the internet."""

    seconds: float
    reads: float = 0
    writes: float = 0
    sent: float = 0
    is_api: bool = True
    """Whether it passes the HTTP API, which meters each 512 KB as one request."""

    @property
    def cost(self) -> float:
        """USD for one request."""
        metered = max(1, self.sent / (MB / 2)) if self.is_api else 0
        return (
            self.seconds * PRICES["Lambda, GB-s"]
            + PRICES["Lambda, a million requests"] / 1e6
            + metered * PRICES["HTTP API, a million requests"] / 1e6
            + self.reads * PRICES["DynamoDB, a million read units"] / 1e6
            + self.writes * PRICES["DynamoDB, a million write units"] / 1e6
            + self.sent * PRICES["Internet, a GB out"] / 1e9
        )


@dataclass(frozen=True)
class Abuse:
    """One way to cause costs: the request, how often a user may make it in a day, and the test that holds it."""

    what: str
    request: Request
    limit: str
    times: float
    test: str
    route: float = ROUTE
    """Requests a second to the route, before its limits."""

    @property
    def before(self) -> float:
        """USD a day without the limit."""
        times = min(self.route, CONCURRENCY / self.request.seconds) * DAY
        return times * self.request.cost

    @property
    def after(self) -> float:
        """USD a day with the limit."""
        return self.times * self.request.cost


def table() -> str:
    """Return the table of docs/security.md."""
    rows = ["| what | one request, USD | limit | requests a day | before, USD a day | after, USD a day | test |"]
    rows.append("| --- | ---: | --- | ---: | ---: | ---: | --- |")
    for abuse in _list_abuses():
        cells = [abuse.what, f"{abuse.request.cost:.7f}", abuse.limit, f"{abuse.times:,.0f}"]
        cells += [_usd(abuse.before), _usd(abuse.after), f"`test_limits.py::{abuse.test}`"]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _list_abuses() -> list[Abuse]:
    from aideer.chats import chat_lists, chat_search, messages
    from aideer.security import budgets
    from aideer.security.limits import DEFAULTS, Kind
    from aideer.tasks import stream_access
    from aideer.uploads import attachments, document_reader, document_text
    from tasks import stop

    def a_day(kind: Kind) -> float:
        return DEFAULTS[kind].times * DAY / DEFAULTS[kind].seconds

    def said(kind: Kind) -> str:
        times, seconds = DEFAULTS[kind]
        return f"{times:,} {_EACH[seconds]}"

    followers = DEFAULTS["follow"].times
    displaced = DEFAULTS["resume"].times / DEFAULTS["resume"].seconds * stream_access.CHECK_SECONDS
    copied, replaced = messages.COPIED_READS * MB, messages.REPLACED_READS * MB
    page, appended = messages.PAGE_BYTES, messages.TRANSACTION_BYTES
    titles, text = chat_search.TITLES, document_text.MOST_BYTES / 1024
    named = attachments.MOST * text
    kept = 3  # a version, the head, and half of it in four indexes
    return [
        Abuse(
            "followers of running answers, for a minute each",
            # Four looks a second: a slice of the log, and the task. Every five seconds: the user and the slots.
            Request(60, reads=60 * 4 * 2 + 12 * 2, writes=6, is_api=False),
            f"{followers} at one time, and {displaced:.0f} that were displaced and have not noticed",
            (followers + displaced) * DAY / 60,
            "test_of_fifty_followers_at_once_the_places_are_never_shared",
        ),
        Abuse(
            "polls, 20 s each",
            Request(20, reads=20 * 4 * 2 + 4 * 2, writes=2),
            f"{DEFAULTS['poll'].times} at one time",
            DEFAULTS["poll"].times * DAY / 20,
            "test_of_fifty_polls_at_once_as_many_wait_as_the_limit_says",
        ),
        Abuse(
            "quotes and refused asks of 16 MB",
            Request(1.5, reads=16 * MB / 4096, writes=1),
            said("ask"),
            a_day("ask"),
            "test_of_fifty_quotes_at_once_as_many_are_priced_as_the_limit_says",
        ),
        Abuse(
            "stops, which wait for the answer's end",
            Request(stop.PATIENCE_SECONDS, reads=stop.PATIENCE_SECONDS * 10, writes=5),
            said("stop"),
            a_day("stop"),
            "test_a_user_stops_so_many_answers_a_minute",
        ),
        Abuse(
            "copies of 16 MB",
            Request(20, reads=copied / 4096, writes=copied / 1024, sent=page),
            said("copy"),
            a_day("copy"),
            "test_of_fifty_copies_at_once_as_many_are_made_as_the_limit_says",
        ),
        Abuse(
            "replacements of 32 MB, and the removal of the old messages",
            Request(25, reads=2 * replaced / 4096, writes=2 * replaced / 1024, sent=page),
            said("replace"),
            a_day("replace"),
            "test_copies_and_replacements_are_limited_by_the_hour",
        ),
        Abuse(
            "new presets and versions of 400 KB",
            Request(0.5, reads=100, writes=2 * 400 * kept),
            said("preset"),
            a_day("preset"),
            "test_of_fifty_changes_at_once_as_many_are_made_as_the_limit_says",
        ),
        Abuse(
            "pages of 4 MB",
            Request(0.5, reads=page / 4096, writes=1, sent=page),
            f"{DEFAULTS['read'].times / 1000:,.0f} MB an hour",
            DEFAULTS["read"].times * 1024 * 24 / page,
            "test_of_fifty_readers_at_once_each_byte_counts",
        ),
        Abuse(
            f"new messages of {appended / 1e6:.0f} MB in all, and their removal",
            Request(3, reads=10, writes=2 * 2 * appended / 1024 + 60),
            f"{DEFAULTS['write'].times / 1000:,.0f} MB an hour",
            DEFAULTS["write"].times * 1024 * 24 / (appended + budgets.CHANGE_BYTES),
            "test_of_fifty_writers_at_once_each_byte_counts",
        ),
        Abuse(
            "changes of chats, short messages, likes and settings",
            # The chat has as many branches as it may have. Its item has 16 KB then.
            Request(0.2, reads=20, writes=2 * 16 + 10),
            f"{DEFAULTS['write'].times / 1000:,.0f} MB an hour; a change counts as {budgets.CHANGE_BYTES // 1024} KB",
            DEFAULTS["write"].times * 1024 * 24 / budgets.CHANGE_BYTES,
            "test_a_change_counts_what_it_writes_and_what_it_removes",
        ),
        Abuse(
            "new share links to chats of 16 MB",
            Request(5, reads=copied / 4096, writes=25),
            said("share"),
            a_day("share"),
            "test_of_fifty_shares_at_once_as_many_are_made_as_the_limit_says",
        ),
        Abuse(
            "pages of 4 MB that strangers read by the user's share links",
            Request(0.5, reads=page / 4096 + 6, writes=4, sent=page),
            f"{DEFAULTS['shared_read'].times / 1000:,.0f} MB an hour",
            DEFAULTS["shared_read"].times * 1024 * 24 / page,
            "test_strangers_read_so_much_of_one_users_shares_from_any_address",
            route=50,
        ),
        Abuse(
            "ratings of answers of 400 KB",
            Request(0.3, reads=2 * 400 / 4, writes=2 * 400 + 20),
            said("feedback"),
            a_day("feedback"),
            "test_of_fifty_ratings_at_once_as_many_are_made_as_the_limit_says",
        ),
        Abuse(
            f"searches in the titles of {titles:,} chats of 16 KB",
            Request(2, reads=titles * 4, writes=3),
            f"{DEFAULTS['read'].times / 1000:,.0f} MB an hour; a title counts as {chat_lists.LOOK_BYTES // 1024} KB",
            DEFAULTS["read"].times * 1024 * 24 / (titles * chat_lists.LOOK_BYTES),
            "test_of_many_searches_each_title_counts_as_reading",
        ),
        Abuse(
            "searches of a user with few chats",
            Request(0.2, reads=4, writes=3),
            said("search"),
            a_day("search"),
            "test_of_fifty_searches_at_once_as_many_are_made_as_the_limit_says",
        ),
        Abuse(
            f"uploads of documents with {text:.0f} KB of text, and their removal",
            # A function with 1.5 GB reads the document. Its text is written twice in transactions, and deleted.
            Request(1.5 * document_reader.SECONDS + 1, reads=2 * text / 4 + 20, writes=5 * text + 40),
            said("upload"),
            a_day("upload"),
            "test_of_fifty_uploads_at_once_as_many_are_opened_as_the_limit_says",
        ),
        Abuse(
            f"messages that name {attachments.MOST} such documents",
            Request(1, reads=named / 4, writes=2 * named + 30, sent=named * 1024),
            f"{DEFAULTS['read'].times / 1000:,.0f} MB an hour",
            DEFAULTS["read"].times * 24 / named,
            "test_texts_of_completed_and_named_documents_count_as_reading",
        ),
        Abuse(
            "new avatar images of 4 MB",
            # A function with 1.5 GB draws it. The put and the removal in S3 cost as a million requests of an API do.
            Request(1.5 * 2 + 5, reads=10, writes=20),
            said("avatar"),
            a_day("avatar"),
            "test_of_fifty_new_avatars_at_once_as_many_are_drawn_as_the_limit_says",
        ),
        Abuse(
            "passwords that are hashed",
            Request(0.15, reads=3, writes=3),
            said("hash"),
            a_day("hash"),
            "test_of_fifty_links_at_once_as_many_are_hashed_as_the_limit_says",
        ),
    ]


_EACH = {60: "a minute", 900: "in 15 minutes", 3600: "an hour", 86400: "a day"}


def _usd(amount: float) -> str:
    return f"{amount:,.2f}"


def main() -> None:
    """Print the table."""
    from local.docs import openapi

    openapi.set_environment()
    print(table())


if __name__ == "__main__":
    main()
