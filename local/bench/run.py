"""`make bench`: the delay that AIDeer adds to the provider's time, measured against the simulated provider on this machine.

It starts its own stack. In turn, it requests the same tokens from the simulated provider directly and through AIDeer, with the
same minimal client. HEAD explains each figure. With --markdown it prints docs/performance.md.
"""

import argparse
import contextlib
import gc
import http.client
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.markdown import Markdown

from local.clients.client import Client, RefusedError
from local.stack.ephemeral import EphemeralStack, EphemeralStackError, run_ephemeral
from local.stack.processes import Processes
from local.stack.state import Stack

CASES = ((100, 20), (1000, 1))
"""(tokens, milliseconds between two tokens)."""
REPETITIONS = 9
WARM_UP = 2
IDLE_SECONDS = 3.0
MODEL = "qwen-plus"
PROMPT = "You are a benchmark."
HEAD = """# Performance

    .venv/bin/python -m local.clients.bench --markdown > docs/performance.md     # `make bench` shows the same
    .venv/bin/python -m tests.scale --markdown >> docs/performance.md    # "Long lists"

This page shows the time that AIDeer adds to the provider's. The benchmark starts a stack of its own. A bare client
(`http.client`) asks the simulated provider for the same tokens, in turn straight and through
AIDeer. Everything is warm, and the texts are compared.

- **first token**: straight, from sending the request to the first event with text. Through AIDeer, from sending `POST /tasks`, on
  a connection that is open, to the first such event of the stream, which is opened as soon as `POST /tasks` has answered.
- **last token**: from sending the request (straight) or opening the stream (through AIDeer) to the last event with text.
- **token delay**: how much later than on time a token arrives. On time is the provider's pace, laid through the token of that
  answer that came earliest, so no delay is below 0. Both columns include the delays of the provider and of the machine.

On one machine the provider, AIDeer, its database and the client share the cores, so any other load shows here first.
"""
TARGETS = {"ratio": 1.02, "first": 30.0, "delay": 10.0, "ready": 6.0, "memory": 700.0}


class BenchError(Exception):
    """The answer is not the requested one, so the figures would be meaningless."""


@dataclass
class Answer:
    """One answer, with the time of each arrival. Times are those of time.perf_counter()."""

    asked: float
    """The time at which its first request was sent."""
    opened: float
    """The time at which the streaming request was sent."""
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    """(time, number of code points received by then), one for each event with text."""
    text: str = ""

    def add(self, moment: float, new: str) -> None:
        """Note new text."""
        if new:
            self.text += new
            self.arrivals.append((moment, len(self.text)))

    @property
    def first_ms(self) -> float:
        """Milliseconds from the first request to the first text."""
        return (self.arrivals[0][0] - self.asked) * 1000

    @property
    def last_ms(self) -> float:
        """Milliseconds from opening the stream to the last text."""
        return (self.arrivals[-1][0] - self.opened) * 1000

    def delays_ms(self, ends: list[int], pace_ms: float) -> list[float]:
        """Return how late each token was, in milliseconds. `ends` are the code points after each token."""
        moments, arrivals = [], iter(self.arrivals)
        moment, position = next(arrivals)
        for end in ends:
            while position < end:
                moment, position = next(arrivals)
            moments.append(moment * 1000)
        from_start = [moment - number * pace_ms for number, moment in enumerate(moments)]
        return [offset - min(from_start) for offset in from_start]


@dataclass
class Case:
    """All answers of one kind."""

    tokens: int
    pace_ms: int
    straight: list[Answer] = field(default_factory=list)
    through: list[Answer] = field(default_factory=list)
    accepted_ms: list[float] = field(default_factory=list)
    """The durations of POST /tasks."""

    @property
    def question(self) -> str:
        """The question that makes the simulated provider give these answers."""
        return f"/sim tokens={self.tokens} delay={self.pace_ms}"

    def delays(self, answers: list[Answer]) -> list[float]:
        """Return the delay of every token of all answers."""
        ends = [end for _, end in self.straight[0].arrivals]  # the provider sends one event a token
        return [delay for answer in answers for delay in answer.delays_ms(ends, self.pace_ms)]


class Bench:
    """The measurements of one running stack."""

    def __init__(self, trial: EphemeralStack, client: Client) -> None:
        self._port = trial.port
        self._client = client
        self._provider = urlsplit(Stack.wait(trial.state_dir).environment["DASHSCOPE_HTTP_BASE_URL"])
        username, password = f"bench-{secrets.token_hex(3)}", secrets.token_urlsafe(12)
        client.call("POST", "/users", {"username": username, "password": password})
        client.sign_in(username, password)
        preset = {
            "title": "Bench",
            "parameters": {"model": MODEL},
            "messages": [{"role": "system", "content": PROMPT}],
        }
        self._preset_id = client.call("POST", "/presets", preset)["id"]
        self._api = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        self._headers = {"Content-Type": "application/json", "Authorization": client.authorization}

    def close(self) -> None:
        """Close the connection."""
        self._api.close()

    def measure(self, case: Case, repetitions: int) -> None:
        """Request the answers in turn, directly and through AIDeer."""
        for number in range(WARM_UP + repetitions):
            straight, (through, accepted_ms) = self._straight(case.question), self._through(case.question)
            if through.text != straight.text or len(straight.arrivals) != case.tokens:
                raise BenchError("AIDeer's text is not the provider's")
            if number >= WARM_UP:
                case.straight.append(straight)
                case.through.append(through)
                case.accepted_ms.append(accepted_ms)

    def health_ms(self, times: int = 50) -> float:
        """Return the median time of a call that does nothing."""
        taken = []
        for _ in range(times):
            began = time.perf_counter()
            self._api.request("GET", "/api/v1/health")
            self._api.getresponse().read()
            taken.append((time.perf_counter() - began) * 1000)
        return statistics.median(taken)

    def _straight(self, question: str) -> Answer:
        messages = [{"role": "system", "content": PROMPT}, {"role": "user", "content": question}]
        body = {
            "model": MODEL,
            "input": {"messages": messages},
            "parameters": {"result_format": "message", "incremental_output": True, "max_tokens": 2048},
        }
        headers = {
            "Content-Type": "application/json",
            "Authorization": "Bearer sk-bench",
            "X-DashScope-SSE": "enable",
        }
        path = f"{self._provider.path}/services/aigc/text-generation/generation"
        connection = http.client.HTTPConnection(str(self._provider.hostname), self._provider.port, timeout=60)
        with contextlib.closing(connection), _without_collector():
            began = time.perf_counter()
            connection.request("POST", path, json.dumps(body), headers)
            received = _read_parts(connection.getresponse())
        answer = Answer(began, began)
        for moment, event in _events(received):
            answer.add(moment, json.loads(event["data"])["output"]["choices"][0]["message"]["content"])
        return answer

    def _through(self, question: str) -> tuple[Answer, float]:
        chat = {
            "preset_id": self._preset_id,
            "title": "Bench",
            "messages": [{"role": "user", "content": question}],
        }
        body = json.dumps({"chat_id": self._client.call("POST", "/chats", chat)["id"]})
        with _without_collector():
            asked = time.perf_counter()
            self._api.request("POST", "/api/v1/tasks", body, self._headers)
            response = self._api.getresponse()
            task = json.loads(response.read())
            if response.status != 200:
                raise RefusedError(response.status, task)
            url = urlsplit(task["stream_url"])
            stream = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            with contextlib.closing(stream):
                opened = time.perf_counter()
                stream.request("GET", f"{url.path}?{url.query}")
                received = _read_parts(stream.getresponse())
        answer, whole = Answer(asked, opened), ""
        for moment, event in _events(received):
            if event.get("id") == "end":
                whole = json.loads(event["data"])["content"]
            elif "event" not in event:
                answer.add(moment, json.loads(event["data"])["content"])
        if whole != answer.text:
            raise BenchError("the last event's text is not what was streamed before")
        return answer, (opened - asked) * 1000


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Keep this process's garbage collector out of the measurement."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _read_parts(response: http.client.HTTPResponse) -> list[tuple[float, bytes]]:
    parts = []
    while part := response.read1(65536):
        parts.append((time.perf_counter(), part))
    return parts


def _events(received: list[tuple[float, bytes]]) -> Iterator[tuple[float, dict[str, str]]]:
    """Yield the events that have data, each with the time at which its last byte arrived. Skip comments."""
    rest = b""
    for moment, part in received:
        *blocks, rest = (rest + part).split(b"\n\n")
        for block in blocks:
            fields = (line.partition(":") for line in block.decode().split("\n") if not line.startswith(":"))
            event = {name: value.removeprefix(" ") for name, _, value in fields}
            if "data" in event:
                yield moment, event


@dataclass(frozen=True)
class Memory:
    """The memory of one process of the stack, in MB."""

    name: str
    resident: float
    own: float | None
    """Its resident memory, with shared pages divided among their processes, or None if the system does not report it."""


def memory(state_dir: Path) -> list[Memory]:
    """Return the memory of every process of a stack."""
    processes = Processes(state_dir)
    names = {process.pid: process.name for process in (processes.launcher, *processes.logged)}
    listing = subprocess.run(
        ["ps", "-axo", "pid=,ppid=,rss=,args="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    found = []
    for line in sorted(listing, key=lambda line: int(line.split()[0])):
        pid, parent, kilobytes, command = line.split(maxsplit=3)
        if int(pid) not in names and int(parent) in names:  # the workers: they descend from the front
            names[int(pid)] = "workers' parent" if names[int(parent)] == "front" else "worker"
        if int(pid) in names and "local." in command:
            found.append(Memory(names[int(pid)], int(kilobytes) / 1024, _proportional(pid)))
    return found


def _proportional(pid: str) -> float | None:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return None


def _percentile(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _verdict(value: float, target: float, unit: str) -> str:
    return f"≤ {target:g}{unit}: {'met' if value <= target else '**missed**'}"


def case_report(case: Case) -> str:
    """Return a case's figures as Markdown."""
    straight, through = case.straight, case.through
    first = [statistics.median(answer.first_ms for answer in answers) for answers in (straight, through)]
    last = [statistics.median(answer.last_ms for answer in answers) for answers in (straight, through)]
    delays = [case.delays(answers) for answers in (straight, through)]
    later, ratio = first[1] - first[0], last[1] / last[0]
    opened = statistics.median(answer.first_ms - (answer.opened - answer.asked) * 1000 for answer in through)
    rows = [
        [
            "first token",
            f"{first[0]:.1f} ms",
            f"{first[1]:.1f} ms",
            f"{later:+.1f} ms",
            _verdict(later, TARGETS["first"], " ms"),
        ],
        [
            "last token",
            f"{last[0]:.0f} ms",
            f"{last[1]:.0f} ms",
            f"{ratio:.3f} ×",
            _verdict(ratio, TARGETS["ratio"], " ×"),
        ],
    ]
    for percent in (50, 99):
        late = [_percentile(values, percent) for values in delays]
        target = _verdict(late[1], TARGETS["delay"], " ms") if percent == 99 else ""
        rows.append(
            [
                f"token delay, p{percent}",
                f"{late[0]:.1f} ms",
                f"{late[1]:.1f} ms",
                f"{late[1] - late[0]:+.1f} ms",
                target,
            ]
        )
    accepted = statistics.median(case.accepted_ms)
    return (
        f"### {case.tokens:,} tokens, one every {case.pace_ms} ms\n\n"
        + _table(["", "straight", "through AIDeer", "difference", "target"], rows)
        + f"\n\nThe first token's time through AIDeer has two parts: POST /tasks took {accepted:.1f} ms, and the stream, from its "
        f"opening to the first token, {opened:.1f} ms, of which the provider's own share is {first[0]:.1f} ms.\n"
    )


def _memory_report(found: list[Memory]) -> str:
    rows = [
        [item.name, f"{item.resident:.0f}", "" if item.own is None else f"{item.own:.0f}"]
        for item in sorted(found, key=lambda item: -item.resident)
    ]
    whole, own = sum(item.resident for item in found), [item.own for item in found if item.own is not None]
    rows.append(["**together**", f"**{whole:.0f}**", f"**{sum(own):.0f}**" if own else ""])
    return (
        _table(["process", "resident, MB", "with what is shared divided, MB"], rows)
        + f"\n\nTarget {_verdict(whole, TARGETS['memory'], ' MB')}, even where what workers share counts once for each.\n"
    )


def measure_all(trial: EphemeralStack, cases: list[Case], repetitions: int, say: Console) -> float:
    """Fill the cases, and return the median time of a call that does nothing, in ms."""
    with Client(trial.url) as client, contextlib.closing(Bench(trial, client)) as bench:
        for case in cases:
            say.print(f"{case.tokens} tokens, one every {case.pace_ms} ms, {WARM_UP} + {repetitions} times each way")
            bench.measure(case, repetitions)
        return bench.health_ms()


def report(repetitions: int, say: Console) -> str:
    """Measure everything, and return it as Markdown."""
    cases = [Case(tokens, pace_ms) for tokens, pace_ms in CASES]
    with tempfile.TemporaryDirectory(prefix="aideer-bench-") as folder:
        state_dir = Path(folder)
        say.print("first start")
        with run_ephemeral(state_dir) as trial:
            first_start = trial.ready_seconds
        say.print("second start, idle")
        with run_ephemeral(state_dir) as trial:
            time.sleep(IDLE_SECONDS)
            idle = memory(state_dir)
            health_ms = measure_all(trial, cases, repetitions, say)
            load = os.getloadavg()[0]
    starts = [
        ["first, with an empty STATE_DIR", f"{first_start:.1f} s", ""],
        ["second", f"{trial.ready_seconds:.1f} s", _verdict(trial.ready_seconds, TARGETS["ready"], " s")],
    ]
    parts = [
        HEAD,
        "## Measured\n",
        f"Medians of {repetitions} answers each way, in turn; {os.cpu_count()} cores, load average {load:.1f}; Python "
        f"{sys.version.split()[0]}. A call that does nothing (GET /health) took {health_ms:.1f} ms.\n",
        *(case_report(case) for case in cases),
        "### Start\n\n" + _table(["start", "ready after", "target"], starts) + "\n",
        f"### Memory of the idle stack, WORKERS=4, {IDLE_SECONDS:g} s after its start\n\n" + _memory_report(idle),
    ]
    return "\n".join(parts)


def main() -> int:
    """Measure, and print the report."""
    parser = argparse.ArgumentParser(
        prog="python -m local.clients.bench", description="Measure the time that AIDeer adds to the provider's."
    )
    parser.add_argument("--markdown", action="store_true", help="print docs/performance.md")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS, help=f"default: {REPETITIONS}")
    options: Any = parser.parse_args()
    say = Console(stderr=True, highlight=False)
    try:
        text = report(options.repetitions, say)
    except (EphemeralStackError, BenchError, RefusedError) as error:
        say.print(str(error), style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        return 1
    if options.markdown:
        print(text, end="")
    else:
        Console(highlight=False).print(Markdown(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
