"""Every way in which an answer can end, and who pays for it. `python -m tests.ends` writes the table into docs/reliability.md.

tests/integration/test_ends.py makes each of these ends happen, and compares what was paid with the provider's own bill.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- made by `python -m tests.ends`: begin -->", "<!-- made by `python -m tests.ends`: end -->"


class Told(StrEnum):
    """What the provider tells of the tokens."""

    PRESENT = "present"
    SHRINKING = "shrinking"
    LATE = "late"
    MISSING = "missing"
    NO_CALL = "no call"


class Sum(StrEnum):
    """An amount, compared with the provider's bill."""

    NOTHING = "nothing"
    BILL = "the bill"
    INPUT = "the counted input"
    """At least the input on the bill, at most the hold."""
    COUNTED = "the counted input and text"
    """At least the input on the bill, at most the hold."""
    TEXT = "the counted text"
    """At most the hold."""
    WORST = "the most that it can be"
    """At least the bill, at most the hold."""


@dataclass(frozen=True, slots=True)
class End:
    """One end: how it comes about, what is told, how it is stored, and who pays what."""

    way: str
    told: Told
    stored: str
    """The task's status, with its finish_reason or its error code."""
    billed: bool
    """Whether the provider bills it."""
    user: Sum
    """What the user pays."""
    counted: Sum
    """What is counted as uncovered."""

    @property
    def difference(self) -> str:
        """Who pays what the user does not pay of the bill."""
        if not self.billed:
            return "there is none"
        if self.user is Sum.BILL:
            return "there is none"
        return "the operator: counted, and bounded for each user and day"


P, S, L, M, N = Told.PRESENT, Told.SHRINKING, Told.LATE, Told.MISSING, Told.NO_CALL
NOTHING, BILL, INPUT, WORST = Sum.NOTHING, Sum.BILL, Sum.INPUT, Sum.WORST
COUNTED, TEXT = Sum.COUNTED, Sum.TEXT


def _paid(way: str, stored: str, *told: Told) -> list[End]:
    """Ends that the user pays."""
    return [End(way, each, stored, True, BILL, NOTHING) for each in told]


def _uncounted(way: str, stored: str) -> End:
    """An end that the user would pay, had the provider said how much it is."""
    return End(way, M, stored, True, NOTHING, COUNTED)


def _failed(way: str, code: str, *told: Told) -> list[End]:
    """Failures of an accepted call."""
    return [End(way, each, f"failed, `{code}`", True, NOTHING, COUNTED if each is M else BILL) for each in told]


def _free(way: str, stored: str) -> End:
    """Ends that cost nobody anything."""
    return End(way, N, stored, False, NOTHING, NOTHING)


ENDS = [
    *_paid("finished", "finished, `stop`", P, S, L),
    _uncounted("finished", "finished, `stop`"),
    *_paid("as long as max_tokens", "finished, `length`", P, S, L),
    _uncounted("as long as max_tokens", "finished, `length`"),
    *_paid("empty", "finished, `stop`", P, S, L),
    _uncounted("empty", "finished, `stop`"),
    *_paid("content filter before any text", "finished, `content_filter`", P),
    _uncounted("content filter before any text", "finished, `content_filter`"),
    *_paid("content filter after some text", "finished, `content_filter`", P, S),
    _uncounted("content filter after some text", "finished, `content_filter`"),
    *_paid("stopped before the first usage", "stopped, `stopped`", L),
    End("stopped before the first usage", M, "stopped, `stopped`", True, INPUT, TEXT),
    *_paid("stopped while it thinks, before the first usage", "stopped, `stopped`", L),
    *_paid("stopped after the first usage", "stopped, `stopped`", P, S),
    *_paid("the executor's time is over", "finished, `length`", P, S),
    _uncounted("the executor's time is over", "finished, `length`"),
    *_paid("signed out while it is made", "finished, `stop`", P),
    *_paid("chat deleted while it is made", "stopped, `stopped`", P),
    End("chat deleted while it is made", M, "stopped, `stopped`", True, INPUT, TEXT),
    *_paid("user deleted while it is made", "finished, `stop`", P),
    *_failed("silent before any text", "upstream_timeout", M),
    *_failed("silent after some text", "upstream_timeout", P, S, M),
    *_failed("reset after some text", "upstream_error", P, S, M),
    *_failed("an error after some text", "upstream_error", P, S, M),
    *_failed("throttled after it was accepted", "throttled", P, M),
    End("executor killed", P, "failed, `interrupted`", True, NOTHING, WORST),
    End("executor killed", M, "failed, `interrupted`", True, NOTHING, WORST),
    _free("question refused by the content filter", "failed, `content_filtered`"),
    _free("throttled until patience ends", "failed, `throttled`"),
    _free("refused with an error", "failed, `upstream_error`"),
    _free("stopped between two throttled tries", "stopped, `stopped`"),
    _free("stopped before anybody began", "stopped, `stopped`"),
    _free("a message became longer before anybody began", "failed, `prompt_changed`"),
    _free("never begun", "failed, `queue_timeout`"),
]


def table() -> str:
    """The table as Markdown."""
    lines = [
        "| how it ends | usage | stored as | the provider bills | the user pays | counted as uncovered | who pays the difference |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for end in ENDS:
        bills = "its tokens" if end.billed else "nothing"
        lines.append(
            f"| {end.way} | {end.told} | {end.stored} | {bills} | {end.user} | {end.counted} | {end.difference} |"
        )
    return "\n".join(lines) + "\n"


def written(page: str) -> str:
    """The page with the table in its place. Raises ValueError where the page has no place for it."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE} lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
