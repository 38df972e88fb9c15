"""The AWS costs of answers: assumptions, prices, and the tables of docs/operations.md.

`make docs` writes the tables into the page.

The prices are the list prices of us-east-1 of November 2025, in USD, on x86_64. Credits pay for the model, so its own
price is not included.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from local.stack.template import ROOT, Template

PAGE = ROOT / "docs" / "operations.md"
ANSWERS = (1_000, 100_000, 10_000_000)
MONTH = 30 * 86400

# The calls of one answer: append a message, request the answer, and stream it to its viewer. Two other calls go with it.
SECONDS = 10
"""Seconds from the claim to the end. Half a second of them lies before and after the model's own time."""
STREAM_SECONDS = SECONDS + 0.5
CALLS = 4
CALL_SECONDS = 0.06
MEMORY_GB, EXECUTOR_GB = 1, 0.5
LATE_SECONDS = 0.1
"""Seconds for the queue's message about an answer that a viewer has already begun."""

# DynamoDB, in request units. Writing 1 KB takes one unit, or two in a transaction. A consistent read of 4 KB takes one unit.
# tests/integration/test_costs.py counts these calls.
WRITES = {
    "append: message, chat and its mark, and the chat in an index": 3 * 2 + 2,
    "ask: task (2 KB, and in an index), user, chat and its mark, idempotency, the check of failed answers, two counters": 2
    * 2
    + 1
    + 7 * 2,
    "claim the task, count the stream": 4 + 1,
    "log, once a second": SECONDS,
    "settle: message (3 KB), entry, user, task, chat and its mark, statistics, two indexes": 6 + 2 + 2 + 4 + 4 + 2 + 3,
}
READS = {
    "append: user, chat": 2,
    "ask: chat, preset, 20 messages of 1 KB": 2 + 5,
    "stream: user, 20 messages": 1 + 5,
    "the stream's end: user, chat, message": 1 + 1 + 1,
    "look for a stop, every 0.7 s": 14,
    "look whether the session goes on, every 5 s": 2,
    "two other calls": 10,
}
SQS_REQUESTS = 3
LOG_KB = 3
STORED_KB = 6
"""KB of one answer at the end of a month: two messages, the task (kept 30 days), the ledger's entry, and as much for the backup."""
SENT_KB = 60
TRACED = 0.05
"""The traced share of requests after the first of each second and function, which is always traced (Lambda's guide, "sampling")."""

# Costs without any request
PINGED = str(Template().document["Resources"]["KeepWarmRule"]).count("Function}")
"""The functions that are kept warm."""
PING_SECONDS = 0.002
PINGS = MONTH / 300 * PINGED
PINGING_SECONDS, PINGING_GB = 2.0, 0.25
"""The time in which one invocation pings them all."""
SWEEPS = MONTH / 60
SWEEP_SECONDS = 0.3
IDLE_POLLS = 2 * 5 * MONTH / 20
"""Lambda polls each queue with five pollers, 20 s each time."""
SECRETS = 4
METRICS, ALARM_METRICS = 66, 50
SECRET_READS = 2 * 12 * 720
"""Reads of one environment that is always running, one every five minutes."""

PRICES = {
    "Lambda, GB-s": 0.0000166667,
    "Lambda, a million requests": 0.20,
    "HTTP API, a million requests": 1.00,
    "DynamoDB, a million write units": 0.625,
    "DynamoDB, a million read units": 0.125,
    "DynamoDB, a GB and its backup": 0.25 + 0.20,
    "SQS, a million requests": 0.40,
    "CloudWatch, a GB of logs": 0.50,
    "CloudWatch, a metric": 0.30,
    "CloudWatch, an alarm's metric": 0.10,
    "X-Ray, a million traces": 5.00,
    "Secrets Manager, a secret": 0.40,
    "Secrets Manager, a million reads": 5.00,
    "Internet, a GB out": 0.09,
}
FREE = {
    "Lambda, GB-s": 400_000,
    "Lambda, a million requests": 1,
    "DynamoDB, a GB and its backup": 0,
    "SQS, a million requests": 1,
    "CloudWatch, a GB of logs": 5,
    "CloudWatch, a metric": 10,
    "CloudWatch, an alarm's metric": 10,
    "X-Ray, a million traces": 0.1,
    "Internet, a GB out": 100,
}
"""The free amounts of an account, every month and without a time limit."""

CLOUDFRONT = {
    "a million HTTPS requests": 1.00,
    "a million runs of its function": 0.10,
    "a GB out, in place of the Internet's": 0.085,
}
"""With a domain of one's own: USD for what CloudFront adds. Data from AWS to CloudFront is free."""
CLOUDFRONT_FREE = {
    "a million HTTPS requests": 10,
    "a million runs of its function": 2,
    "a GB out, in place of the Internet's": 1000,
}

WARM = {
    "SnapStart: the snapshot of one function, kept": 0.0000015046,
    "Provisioned concurrency: one environment": 0.0000041667,
}
"""USD per GB-second, for the whole month."""
RESTORE = 0.0001397998
"""SnapStart: USD for each GB that a cold start restores."""


@dataclass(frozen=True)
class Use:
    """The amount of each priced item that is used in a month."""

    amounts: dict[str, float]

    @classmethod
    def of(cls, answers: int) -> "Use":
        """Return the use of a month with this number of answers."""
        million = answers / 1e6
        executing, calling = answers * (STREAM_SECONDS + LATE_SECONDS), answers * CALLS * CALL_SECONDS
        environments = 1.5 * (executing + calling) / MONTH
        idle = SWEEPS * SWEEP_SECONDS * MEMORY_GB + PINGS * PING_SECONDS * MEMORY_GB
        idle += PINGS / PINGED * PINGING_SECONDS * PINGING_GB
        return cls(
            {
                "Lambda, GB-s": executing * EXECUTOR_GB + calling * MEMORY_GB + idle,
                "Lambda, a million requests": million * (CALLS + 2) + (SWEEPS + PINGS + PINGS / PINGED) / 1e6,
                "HTTP API, a million requests": million * CALLS,
                "DynamoDB, a million write units": million * sum(WRITES.values()),
                "DynamoDB, a million read units": million * sum(READS.values()),
                "DynamoDB, a GB and its backup": million * STORED_KB,
                "SQS, a million requests": million * SQS_REQUESTS + IDLE_POLLS / 1e6,
                "CloudWatch, a GB of logs": million * LOG_KB,
                "CloudWatch, a metric": METRICS,
                "CloudWatch, an alarm's metric": ALARM_METRICS,
                "X-Ray, a million traces": ((CALLS + 2) * _traces(answers) + SWEEPS) / 1e6,
                "Secrets Manager, a secret": SECRETS,
                "Secrets Manager, a million reads": environments * SECRET_READS / 1e6,
                "Internet, a GB out": million * SENT_KB,
            }
        )

    def costs(self, *, free: bool = False) -> dict[str, float]:
        """Return the cost of each item in USD. With `free`, charge only the amount above the free tier."""
        beyond = FREE if free else {}
        return {name: max(0, amount - beyond.get(name, 0)) * PRICES[name] for name, amount in self.amounts.items()}


def _traces(requests: int) -> float:
    """Return the traces of a month's requests to one function, if the requests are evenly spread."""
    first = min(requests, MONTH)
    return first + TRACED * (requests - first)


def table() -> str:
    """Return a table of the costs of a month, by priced item."""
    months = [Use.of(answers) for answers in ANSWERS]
    rows = [["USD a month", *(f"{answers:,} answers" for answers in ANSWERS)], ["---", *["---:"] * len(ANSWERS)]]
    rows += [[f"{name} ({_price(name)})", *(_usd(month.costs()[name]) for month in months)] for name in PRICES]
    for label, free in (("**together**", False), ("**less what is always free**", True)):
        rows.append([label, *(f"**{_usd(sum(month.costs(free=free).values()))}**" for month in months)])
    each = (sum(month.costs().values()) / answers for month, answers in zip(months, ANSWERS, strict=True))
    rows.append(["of that, for 1,000 answers", *(_usd(1000 * cost) for cost in each)])
    return _lines(rows)


def units() -> str:
    """Return a table of DynamoDB's request units for one answer."""
    rows = [["request units of one answer", "write", "read"], ["---", "---:", "---:"]]
    rows += [[name, str(count), ""] for name, count in WRITES.items()]
    rows += [[name, "", str(count)] for name, count in READS.items()]
    rows.append(["**together**", f"**{sum(WRITES.values())}**", f"**{sum(READS.values())}**"])
    return _lines(rows)


def cloudfront() -> str:
    """Return a table of what CloudFront adds to a month, less the transfer that it replaces."""
    rows = [["USD a month", *(f"{answers:,} answers" for answers in ANSWERS)], ["---", *["---:"] * len(ANSWERS)]]
    amounts = [
        dict(zip(CLOUDFRONT, [answers / 1e6 * (CALLS + 1)] * 2 + [answers / 1e6 * SENT_KB], strict=True))
        for answers in ANSWERS
    ]
    rows += [
        [f"CloudFront, {name} ({price:g})", *(_usd(month[name] * price) for month in amounts)]
        for name, price in CLOUDFRONT.items()
    ]
    replaced = [answers / 1e6 * SENT_KB * PRICES["Internet, a GB out"] for answers in ANSWERS]
    rows.append(["less: Internet, a GB out", *(_usd(-amount) for amount in replaced)])
    for label, free in (("**added**", 0), ("**added, less what is always free**", 1)):
        added = [
            sum(max(0, month[name] - free * CLOUDFRONT_FREE[name]) * price for name, price in CLOUDFRONT.items())
            - max(0, amount - free * FREE["Internet, a GB out"] * PRICES["Internet, a GB out"])
            for month, amount in zip(amounts, replaced, strict=True)
        ]
        rows.append([label, *(f"**{_usd(amount)}**" for amount in added)])
    return _lines(rows)


def warm() -> str:
    """Return a table of the costs of faster function starts."""
    rows = [["option, 1 GB", "USD a month"], ["---", "---:"]]
    rows += [[name, _usd(price * MEMORY_GB * MONTH)] for name, price in WARM.items()]
    rows.append(["SnapStart: 1,000 cold starts", _usd(1000 * RESTORE * MEMORY_GB)])
    return _lines(rows)


def _price(name: str) -> str:
    return f"{PRICES[name]:.10f}".rstrip("0").rstrip(".")


def _usd(amount: float) -> str:
    return f"{amount:,.2f}"


def _lines(rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def write(page: Path = PAGE) -> None:
    """Write the tables into the page, each in the place of the one with the same first two cells."""
    text = page.read_text(encoding="utf-8")
    for made in (units(), table(), cloudfront(), warm()):
        head, rule, first, *_ = made.splitlines()
        label = first.split("|")[1]
        pattern = rf"^{re.escape(head)}\n{re.escape(rule)}\n\|{re.escape(label)}\|.*\n(?:\|.*\n)*"
        text, found = re.subn(pattern, lambda _, made=made: f"{made}\n", text, flags=re.MULTILINE)  # type: ignore[misc]
        if found != 1:
            raise ValueError(f"{page} has {found} tables that begin with {label.strip()}")
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
