"""`make bench`: the delay that AIDeer adds to the provider's time, measured against the simulated provider on this machine.

It starts a stack of its own, and the servers that AIDeer is compared with (rivals.py). All ways (ways.py) get the same question
in turn, in one run. It prints Markdown, to be pasted into docs/performance.md. HEAD explains each figure.
"""

import argparse
import contextlib
import http.client
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from local.bench.answers import BenchError
from local.bench.figures import (
    CASES,
    Case,
    make_calls_report,
    make_case_report,
    make_memory_report,
    make_start_report,
)
from local.bench.memory import measure_memory
from local.bench.rivals import NO_CLIENTS, NO_LITELLM, run_litellm, run_openai, run_relay, to_compatible
from local.bench.ways import Aideer, Way, to_provider
from local.clients.client import Client, NoStackError, RefusedError
from local.stack.ephemeral import EphemeralStack, EphemeralStackError, run_ephemeral
from local.stack.state import Stack

REPETITIONS = 20
WARM_UP = 3
IDLE_SECONDS = 3.0
PAUSE_SECONDS = 0.1
"""Seconds between two answers. What a way still does after its last token would else delay the next way's first."""
CALLS = 50
HEAD = """# Performance

    make bench ARGS=--page > docs/performance.md                         # `make bench` prints "Measured" alone
    .venv/bin/python -m tests.scale --markdown >> docs/performance.md    # "Long lists"

This page shows the time that AIDeer adds to the provider's, and what other servers add. The benchmark starts a stack of its own.
A bare client (`http.client`) asks the simulated provider for the same tokens in each of these ways, in turn:

- **the provider alone**: straight to the simulated DashScope.
- **bare SDK relay**: uvicorn and DashScope's SDK pass the text on (`local/bench/relay.py`). No accounts, no credits, no storage.
- **`POST /tasks/stream`**: through AIDeer, the question and its answer in one request. The question follows an answer in its chat,
  which the same process has made, so that process knows the chat.
- **`POST /tasks/stream`, a new chat**: the question opens its chat.
- **`POST /tasks/stream`, a chat to be read**: the process does not know the chat, as after ten minutes, or if another process has
  made the answer before.
- **`POST /tasks`, `GET /tasks/{id}/stream`**: through AIDeer, by the queue and a stream that is opened as soon as the task is
  accepted. `POST /tasks` has a connection that is open.
- **`POST /v1/chat/completions`**: through AIDeer by OpenAI's protocol, with an API key. So it is compared with **the provider
  alone, OpenAI's protocol**.
- **LiteLLM proxy**: the pinned version of requirements-litellm.txt, with one key and no database. It speaks OpenAI's protocol with
  DashScope.
- **LiteLLM proxy before AIDeer**: the same proxy, but AIDeer's `/v1` is its provider.
- **openai-python to AIDeer**: the pinned version of requirements-clients.txt asks `/v1`, in a process of its own
  (`local/bench/openai_asks.py`). It is compared with **openai-python to the provider**. Both include what openai-python takes.

All ways run in one run, one after the other, and each round begins with another way. Everything is warm, and the texts are
compared. A difference is one of medians.

- **first token**: from sending the first request to the first event with text.
- **last token**: to the last event with text. It counts from sending the request; with `POST /tasks/stream`, from its `start`
  event, and with the queue, from opening the stream.
- **later than straight**, **× straight**: against the provider alone, in the same protocol.
- **token delay**: how much later than on time a token arrives. On time is the provider's pace, laid through the token of that
  answer that came earliest, so no delay is below 0. All columns include the delays of the provider and of the machine.
- **AWS calls before**: how many rounds of calls come one after the other before the model is asked. Here a call takes 1 to 3 ms.

On one machine the provider, the servers, AIDeer's database and the client share the cores, so any other load shows here first.
The targets are reported, and no test asserts them.
"""


def measure(case: Case, ways: Sequence[Way], repetitions: int) -> None:
    """Ask in each way in turn, and note the answers. Each round begins with another way.

    Raises
    ------
    BenchError
        The ways do not bring the same text.
    """
    for number in range(WARM_UP + repetitions):
        begin, texts = number % len(ways), set()
        for way in (*ways[begin:], *ways[:begin]):
            time.sleep(PAUSE_SECONDS)
            answer = way.ask(case.question)
            texts.add(answer.text)
            if way.name == way.straight and len(answer.arrivals) != case.tokens:
                raise BenchError(f"{way.name}: {len(answer.arrivals)} events with text instead of {case.tokens}")
            if number >= WARM_UP:
                case.add(way, answer)
        if len(texts) != 1:
            raise BenchError("the ways do not bring the same text")


@contextlib.contextmanager
def open_ways(
    trial: EphemeralStack, folder: Path, say: Console, *, others: bool = True
) -> Iterator[tuple[Aideer, list[Way]]]:
    """Start the other programs, and yield AIDeer and all ways. Say which of `others`, LiteLLM and openai-python, is not there."""
    provider = Stack.wait(trial.state_dir).environment["DASHSCOPE_HTTP_BASE_URL"]
    compatible, to_compatible_provider = to_compatible(provider)
    with contextlib.ExitStack() as stack:
        aideer = Aideer(trial.url, stack.enter_context(Client(trial.url)))
        ways = [to_provider(provider), stack.enter_context(run_relay(provider, folder)), to_compatible_provider]
        ways += aideer.ways
        if others:
            proxies = stack.enter_context(run_litellm(compatible, aideer, folder))
            sdk = stack.enter_context(run_openai(compatible, aideer))
            for found, without in ((proxies, NO_LITELLM), (sdk, NO_CLIENTS)):
                if not found:
                    say.print(without, soft_wrap=True)
            ways += [*proxies, *sdk]
        yield aideer, ways


def report(repetitions: int, say: Console) -> str:
    """Measure everything, and return it as Markdown."""
    cases, load = [Case(*case) for case in CASES], os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="aideer-bench-") as folder:
        state_dir = Path(folder) / "state"
        say.print("first start")
        with run_ephemeral(state_dir) as trial:
            first_start = trial.ready_seconds
        say.print("second start, idle")
        with run_ephemeral(state_dir) as trial:
            time.sleep(IDLE_SECONDS)
            idle = measure_memory(state_dir)
            with open_ways(trial, Path(folder), say) as (aideer, ways):
                for case in cases:
                    title = f"{case.tokens} tokens, one every {case.pace_ms:g} ms"
                    say.print(f"{title}, {WARM_UP} + {repetitions} times in {len(ways)} ways")
                    measure(case, ways, repetitions)
                call_ms, accepted_ms = map(statistics.median, (aideer.time_calls(CALLS), aideer.accepted_ms))
    parts = [
        "## Measured\n",
        f"{repetitions} answers in each way after {WARM_UP} to warm up; {os.cpu_count()} cores, load average {load:.1f} before and "
        f"{os.getloadavg()[0]:.1f} at the end; Python {sys.version.split()[0]}. A call that does nothing (GET /health) took "
        f"{call_ms:.1f} ms, and `POST /tasks` {accepted_ms:.1f} ms (medians).\n",
        *map(make_case_report, cases),
        make_calls_report(),
        make_start_report(first_start, trial.ready_seconds),
        f"### Memory of the idle stack, WORKERS=4, {IDLE_SECONDS:g} s after its start\n\n" + make_memory_report(idle),
    ]
    return "\n".join(parts)


def main() -> int:
    """Measure, and print the report."""
    parser = argparse.ArgumentParser(
        prog="python -m local.bench.run", description="Measure the time that AIDeer adds to the provider's."
    )
    parser.add_argument("--page", action="store_true", help="print the head of docs/performance.md too")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS, help=f"default: {REPETITIONS}")
    options: Any = parser.parse_args()
    say = Console(stderr=True, highlight=False)
    try:
        text = report(options.repetitions, say)
    except (EphemeralStackError, BenchError, RefusedError, NoStackError, OSError, http.client.HTTPException) as error:
        say.print(str(error) or type(error).__name__, style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        return 1
    print(f"{HEAD}\n{text}" if options.page else text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
