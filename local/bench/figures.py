"""What the answers say: medians, percentiles, and the tables of docs/performance.md."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field

from local.bench.answers import Answer
from local.bench.calls import ASKED, BEFORE_THE_MODEL, COMPLETED, OPENED, QUEUED, READ, describe
from local.bench.memory import Memory
from local.bench.ways import COMPATIBLE, LITELLM, LITELLM_BEFORE, RELAY, SDK, SDK_COMPATIBLE, STRAIGHT, Way

CASES = ((100, 20, 1.01), (1000, 1, 1.02))
"""(tokens, milliseconds between two tokens, target of the last token against the provider alone)."""
ORDER = (
    *(STRAIGHT, RELAY, ASKED, OPENED, READ, QUEUED),
    *(COMPATIBLE, COMPLETED, LITELLM, LITELLM_BEFORE, SDK_COMPATIBLE, SDK),
)
"""The rows of a table."""
COMPLETED_LATER_MS, COMPLETED_WHOLE = 5.0, 1.01
"""Targets of /v1 against POST /tasks/stream: its first token, and its last one, both from the request."""
READY_SECONDS, MEMORY_MB = 6.0, 700.0


@dataclass
class Case:
    """All answers of one kind, by the name of their way."""

    tokens: int
    pace_ms: float
    last_target: float
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    straights: dict[str, str] = field(default_factory=dict)
    """The name of each way -> the name of the way straight to the provider that it is compared with."""

    @property
    def question(self) -> str:
        """The question that makes the simulated provider give these answers."""
        return f"/sim tokens={self.tokens} delay={self.pace_ms}"

    def add(self, way: Way, answer: Answer) -> None:
        """Note an answer."""
        self.straights[way.name] = way.straight
        self.answers.setdefault(way.name, []).append(answer)

    def firsts_ms(self, way: str) -> list[float]:
        """Return the times of the first token, in ms."""
        return [answer.first_ms for answer in self.answers[way]]

    def lasts_ms(self, way: str) -> list[float]:
        """Return the times of the last token, in ms."""
        return [answer.last_ms for answer in self.answers[way]]

    def median_whole_ms(self, way: str) -> float:
        """Return the median of the times from the request to the last token, in ms."""
        return statistics.median(answer.whole_ms for answer in self.answers[way])

    def later_ms(self, way: str) -> float:
        """Return how much later than straight the first token comes, by medians, in ms."""
        return statistics.median(self.firsts_ms(way)) - statistics.median(self.firsts_ms(self.straights[way]))

    def last_ratio(self, way: str) -> float:
        """Return the last token's time as a multiple of the time straight, by medians."""
        return statistics.median(self.lasts_ms(way)) / statistics.median(self.lasts_ms(self.straights[way]))

    def delays_ms(self, way: str) -> list[float]:
        """Return the delay of every token of all answers, in ms."""
        ends = [end for _, end in self.answers[STRAIGHT][0].arrivals]  # the provider sends one event a token
        return [delay for answer in self.answers[way] for delay in answer.delays_ms(ends, self.pace_ms)]


def percentile(values: Iterable[float], percent: int) -> float:
    """Return the smallest measured value that so many percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def make_table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown. The first column is text, the others are numbers."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def judge(value: float, target: float, unit: str) -> str:
    """Return a target, and whether it is met."""
    return f"≤ {target:g}{unit}: {'met' if value <= target else '**missed**'}"


def make_case_report(case: Case) -> str:
    """Return a case's figures as Markdown."""
    lines = [f"### {case.tokens:,} tokens, one every {case.pace_ms:g} ms", "", _ways_table(case), ""]
    if ASKED in case.answers:
        lines += [f"Targets of `{ASKED}`:", ""]
        for way in [name for name in (ASKED, OPENED, READ) if {name, LITELLM} <= case.answers.keys()]:
            verdict = judge(case.later_ms(way), round(case.later_ms(LITELLM), 1), " ms")
            lines.append(
                f"- first token, `{way}`: {case.later_ms(way):.1f} ms later than straight, LiteLLM's {verdict}"
            )
        ratio = case.last_ratio(ASKED)
        lines += [f"- last token: {ratio:.3f} ×, {judge(ratio, case.last_target, ' ×')}", ""]
    if {ASKED, COMPLETED} <= case.answers.keys():
        later = statistics.median(case.firsts_ms(COMPLETED)) - statistics.median(case.firsts_ms(ASKED))
        ratio = case.median_whole_ms(COMPLETED) / case.median_whole_ms(ASKED)
        lines += [f"Targets of `{COMPLETED}`:", ""]
        lines += [
            f"- first token: {later:+.1f} ms against `{ASKED}`, {judge(round(later, 1), COMPLETED_LATER_MS, ' ms')}"
        ]
        lines += [
            f"- last token, from the request: {ratio:.3f} × `{ASKED}`, {judge(round(ratio, 3), COMPLETED_WHOLE, ' ×')}"
        ]
        lines += [""]
    return "\n".join(lines)


def _ways_table(case: Case) -> str:
    head = ["", "first token: p50", "p95", "later than straight", "last token: p50", "p95", "× straight"]
    head += ["token delay: p50", "p99", "AWS calls before"]
    rows = []
    for way in sorted(case.straights, key=ORDER.index):
        first, last, delays = case.firsts_ms(way), case.lasts_ms(way), case.delays_ms(way)
        is_straight, calls = way == case.straights[way], BEFORE_THE_MODEL.get(way)
        rows.append(
            [
                f"`{way}`" if calls else way,
                f"{statistics.median(first):.1f} ms",
                f"{percentile(first, 95):.1f} ms",
                "" if is_straight else f"{case.later_ms(way):+.1f} ms",
                f"{statistics.median(last):.0f} ms",
                f"{percentile(last, 95):.0f} ms",
                "" if is_straight else f"{case.last_ratio(way):.3f} ×",
                f"{statistics.median(delays):.1f} ms",
                f"{percentile(delays, 99):.1f} ms",
                str(len(calls)) if calls else "",
            ]
        )
    return make_table(head, rows)


def make_calls_report() -> str:
    """Return AIDeer's calls of AWS before the model is asked, as Markdown."""
    lines = [f"- `{way}`: {len(calls)}. {describe(way)}." for way, calls in BEFORE_THE_MODEL.items()]
    return "### AWS calls before the model is asked, one after the other\n\n" + "\n".join(lines) + "\n"


def make_start_report(first: float, second: float) -> str:
    """Return the seconds of two starts as Markdown."""
    rows = [
        ["first, with an empty STATE_DIR", f"{first:.1f} s", ""],
        ["second", f"{second:.1f} s", judge(second, READY_SECONDS, " s")],
    ]
    return "### Start\n\n" + make_table(["start", "ready after", "target"], rows) + "\n"


def make_memory_report(found: list[Memory]) -> str:
    """Return the memory of the processes as Markdown."""
    rows = [
        [item.name, f"{item.resident:.0f}", "" if item.own is None else f"{item.own:.0f}"]
        for item in sorted(found, key=lambda item: -item.resident)
    ]
    whole, own = sum(item.resident for item in found), [item.own for item in found if item.own is not None]
    rows.append(["**together**", f"**{whole:.0f}**", f"**{sum(own):.0f}**" if own else ""])
    return (
        make_table(["process", "resident, MB", "with what is shared divided, MB"], rows)
        + f"\n\nTarget {judge(whole, MEMORY_MB, ' MB')}, even where what workers share counts once for each.\n"
    )
