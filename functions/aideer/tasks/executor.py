"""The task engine: one executor makes one answer, from its claim to its settle.

The executor runs as a separate task on the event loop. So it goes on if a viewer leaves, and a slow viewer does not delay it.
Viewers read `Run.shown` at their own pace. While the answer comes, one loop renews the lease and looks for a stop request. Another
loop writes the stream log. Calls of DynamoDB run in threads.

The provider bills a call from the moment it accepts it (HTTP 200). So the executor never repeats an accepted call. After a stop, it
keeps the connection until the provider has reported its usage.
"""

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, Literal

from aws_lambda_powertools import Logger

from aideer.billing import credits, uncovered
from aideer.billing.credits import Closer, Text
from aideer.core import aws, clock, metrics, settings
from aideer.core.errors import traceback_summary
from aideer.core.usage import Source, Usage
from aideer.data.models import Task
from aideer.prompts import input_tokens, prompts
from aideer.prompts.prompts import Prompt
from aideer.providers import dashscope, dashscope_connections
from aideer.providers.dashscope import Chunk, UpstreamError
from aideer.providers.dashscope_connections import Call
from aideer.tasks import leases, titles
from aideer.tasks.log_writer import LogWriter

IDLE_SECONDS = 60.0
"""The longest time in seconds without progress, after the first text."""
FIRST_SECONDS, TOKENS_A_SECOND = 60.0, 5_000
"""The longest wait for the first text: FIRST_SECONDS, and one second more for each TOKENS_A_SECOND tokens of the prompt."""
TEXT_BYTES = 300_000
"""The most bytes of reasoning and content together, in UTF-8. A message item holds them with room to spare."""
SOURCES_BYTES = 50_000
"""The most bytes of sources beside that text, as JSON in UTF-8. A DynamoDB item has at most 400 KB."""
SETTLE_SECONDS = 15.0
"""Seconds kept free before the deadline, to save and settle."""
RETRY_SECONDS = 60.0
"""Seconds for which a throttled call is tried again before its first token."""
STOP_SECONDS = 0.7
"""Seconds between two looks for a stop request."""
FLUSH_ATTENDED, FLUSH_ALONE = 1.0, 0.2
"""Seconds that shown text may wait for the stream log.

If a viewer is attached, only second viewers read the log; otherwise all do.
"""


class OutOfTime(Exception):
    """The deadline came before the end of the answer."""


class NothingToAsk(Exception):
    """The messages that a title would describe are gone."""


logger = Logger(service="aideer")
_working: set[asyncio.Task[None]] = set()


class Run:
    """One executor's work on one claimed task."""

    def __init__(self, task: Task, deadline: float, *, attended: bool) -> None:
        self.task = task
        self.shown: list[tuple[str, str]] = []
        """(kind, text) in order of arrival. The executor only appends to it."""
        self.asked = asyncio.Event()
        """Set when the executor calls the model. From then on it only waits, so other work does not delay it."""
        self.over = False
        self.end: Task | None = None
        """The task as it is stored after the run. It is None if the task could neither be closed nor read."""
        self._deadline = deadline
        self._attended = attended
        self._closer = Closer.executor(task.executor)
        self._prompt: Prompt | None = None
        self._call = Call()
        self._usage: Usage | None = None
        """The largest count of each field that the provider has reported."""
        self._usage_known = asyncio.Event()
        self._count: Usage | None = None
        self._sources: tuple[Source, ...] = ()
        self._thought = False
        """Set by the first reasoning of the model, shown or not. It decides the price of the output."""
        self._muted = False
        """Set by a stop that waits for the usage. Later text is not shown."""
        self._called_at = self._first_text_at = 0.0
        self._bytes = 0
        self._hidden: list[str] = []
        """Text that came and is not shown: after a stop, or beyond the longest answer."""
        self._cut = False
        """Set when the text has reached TEXT_BYTES. Later text is not shown."""
        self._changed = asyncio.Event()
        self._stop, self._lost = asyncio.Event(), asyncio.Event()
        self._log = LogWriter(task, self.shown, FLUSH_ATTENDED if attended else FLUSH_ALONE)

    @property
    def text(self) -> Text:
        """All text that was shown."""
        return Text(
            reasoning="".join(text for kind, text in self.shown if kind == "reasoning"),
            content="".join(text for kind, text in self.shown if kind == "content"),
        )

    async def changed(self, seen: int, seconds: float) -> bool:
        """Wait until more than `seen` pieces are shown or the run is over. Return False if `seconds` pass before."""
        try:
            async with asyncio.timeout(seconds):
                while len(self.shown) <= seen and not self.over:
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def work(self) -> None:
        """Make the answer and close the task. Afterwards `end` is the task as it is stored."""
        keepers = [asyncio.create_task(self._keep_lease()), asyncio.create_task(self._log.keep())]
        try:
            close = await self._answer()
            await self._log.flush()
            self.end = await self._patiently(_reread if self._lost.is_set() else close)
        finally:
            for keeper in keepers:
                keeper.cancel()
            self.over = True
            self.asked.set()
            self._notify()

    async def _answer(self) -> Callable[[Task], Task]:
        """Call the model until it ends, fails, or is stopped. Return the function that closes the task."""
        pump = asyncio.create_task(self._pump())
        signals = [asyncio.create_task(signal.wait()) for signal in (self._stop, self._lost)]
        await self._wait(pump, *signals)
        if self._stop.is_set() and not (pump.done() or self._lost.is_set()):
            await self._learn_usage(pump, signals[1])
        in_time = pump.done() or self._stop.is_set() or self._lost.is_set()
        for pending in (pump, *signals):
            pending.cancel()
        outcome, *_ = await asyncio.gather(pump, *signals, return_exceptions=True)
        self._measure()
        return await asyncio.to_thread(self._closing, outcome if in_time else OutOfTime())

    async def _wait(self, *tasks: asyncio.Task[Any], seconds: float = float("inf")) -> None:
        """Wait for the first of these tasks: for `seconds`, or until only SETTLE_SECONDS are left before the deadline."""
        left = self._deadline - SETTLE_SECONDS - clock.now()
        await asyncio.wait(tasks, timeout=max(min(left, seconds), 0), return_when=asyncio.FIRST_COMPLETED)

    async def _learn_usage(self, pump: asyncio.Task[str], lost: asyncio.Task[Any]) -> None:
        """After a stop, wait for the usage. The provider may have accepted the call, and then it bills at least the input."""
        self._muted = True
        if self._call.sent and not self._usage_known.is_set():
            known = asyncio.create_task(self._usage_known.wait())
            await self._wait(pump, lost, known, seconds=self._first_seconds)
            known.cancel()

    def _closing(self, outcome: object) -> Callable[[Task], Task]:
        """Return the function that closes the task after this outcome of the pump: a finish_reason, or an exception."""
        closer, text, usage = self._closer, self.text, self._usage
        if isinstance(outcome, str) and not self._muted:
            return self._settling("finished", outcome, usage)
        if self._stop.is_set():
            return self._settling("stopped", "stopped", self._billed())
        cut = isinstance(outcome, UpstreamError) and self._cut  # what comes behind the cut changes no answer
        if cut or (isinstance(outcome, OutOfTime) and (usage or len(text))):
            return self._settling("finished", "length", usage)
        code = self._failure(outcome)
        lost = self._unpaid(None)
        return lambda task: credits.release(task, closer, code, text, usage, uncovered_credits=lost)

    def _settling(
        self, status: Literal["finished", "stopped"], finish_reason: str, usage: Usage | None
    ) -> Callable[[Task], Task]:
        # The user pays the reported usage. Without one, the operator's loss is counted, which bounds how often a user can cause
        # such ends.
        uncounted = None if self._usage else self._unpaid(usage)
        settle = partial(credits.settle, thought=self._thought, uncounted_credits=uncounted)
        closer, text, sources, paid = self._closer, self.text, self._sources, usage or Usage()
        return lambda task: settle(task, closer, status, text, finish_reason, paid, sources)

    def _billed(self) -> Usage | None:
        """Return the usage that the provider bills, as far as it can be known.

        An accepted call without reported usage costs its input.
        """
        if self._usage or not (self._call.accepted and self._prompt):
            return self._usage
        # Counted once: counting is slow, and two counts may differ.
        self._count = self._count or input_tokens.count(self.task.tariff, self._prompt, self.task.parameters)
        return self._count

    def _unpaid(self, paid: Usage | None) -> int:
        """Return the credits that the provider bills and the user does not pay.

        If the provider reported no usage for an accepted call, this is the likely cost, at most the hold.
        """
        cost = partial(uncovered.compute_cost, self.task, thought=self._thought)
        billed = self._billed()
        if self._usage or billed is None:
            return cost(self._usage)
        said = [self.text.reasoning, self.text.content, *self._hidden]
        likely = cost(billed._replace(output_tokens=input_tokens.count_texts(self.task.tariff, said)))
        return max(min(likely, int(self.task.hold)) - cost(paid), 0)

    @property
    def _first_seconds(self) -> float:
        tokens = sum(len(text.encode()) for text in self._prompt.contents) if self._prompt else 0  # an upper bound
        return FIRST_SECONDS + tokens / TOKENS_A_SECOND

    async def _pump(self) -> str:
        """Show the model's text as it comes, and return its finish_reason."""
        task = self.task
        prompt, api_key = await asyncio.gather(
            asyncio.to_thread(_prompt, task),
            asyncio.to_thread(aws.read_dashscope_api_key),
        )
        self._prompt = prompt
        give_up_at, pause = clock.now() + RETRY_SECONDS, 0.5
        asyncio.get_running_loop().call_soon(self.asked.set)
        while True:
            self._called_at, self._call = clock.now(), Call()
            try:
                async with aclosing(
                    dashscope.stream(
                        task.model,
                        prompt.messages,
                        task.parameters,
                        endpoint=task.tariff["endpoint"],
                        api_key=api_key,
                        base_url=settings.DASHSCOPE_HTTP_BASE_URL,
                        idle_seconds=IDLE_SECONDS,
                        first_seconds=self._first_seconds,
                        call=self._call,
                        log_ids=leases.log_ids(task),
                    )
                ) as answer:
                    return await self._relay(answer)
            except UpstreamError as error:
                # Only a throttled call is tried again. In any other failure, the provider may have worked, and may bill it.
                final = error.code != "throttled" or self._call.accepted or self._stop.is_set()
                if final or clock.now() + pause > give_up_at:
                    raise
            self._call = Call()
            metrics.emit({"ProviderThrottles": 1})
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
            pause = min(pause * 2, 8.0)

    async def _relay(self, answer: AsyncGenerator[Chunk, None]) -> str:
        finish_reason = ""
        async for chunk in answer:
            if chunk.usage:
                self._usage = chunk.usage.maximum(self._usage)
                if self._usage.input_tokens:
                    self._usage_known.set()
            self._thought = self._thought or bool(chunk.reasoning)
            self._sources = _limit_sources(chunk.sources) or self._sources
            finish_reason = chunk.finish_reason or finish_reason
            self._show("reasoning", chunk.reasoning)
            self._show("content", chunk.content)
            # Without a usage the relay reads on: the provider may report it at the end.
            if self._cut and self._usage and not finish_reason:
                return "length"
        return "length" if self._cut and finish_reason != "content_filter" else finish_reason

    def _show(self, kind: str, text: str) -> None:
        """Show a piece of text, up to TEXT_BYTES for the whole answer."""
        if not text:
            return
        if self._muted or self._cut:
            self._hidden.append(text)
            return
        size = len(text.encode())
        room = TEXT_BYTES - self._bytes
        if size > room:
            self._cut, text = True, text.encode()[:room].decode(errors="ignore")
        self._bytes += size
        self._first_text_at = self._first_text_at or clock.now()
        self.shown.append((kind, text))
        self._notify()
        self._log.notice()

    def _measure(self) -> None:
        if not self._first_text_at:
            return
        values = {"ProviderTimeToFirstToken": (self._first_text_at - self._called_at) * 1000}
        if self._attended:
            values["TimeToFirstToken"] = (self._first_text_at - clock.parse(self.task.create_time)) * 1000
        metrics.emit(values)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _keep_lease(self) -> None:
        """Renew the lease in time, and notice a stop request or the loss of the task within a second."""
        renewed = clock.now()
        while True:
            await asyncio.sleep(min(STOP_SECONDS, leases.RENEW_SECONDS))
            now = clock.now()
            due = now - renewed >= leases.RENEW_SECONDS - STOP_SECONDS
            try:
                renewal = partial(leases.renew, usage=self._usage) if due else leases.reload_if_owner
                stored = await asyncio.to_thread(renewal, self.task)
            except Exception as error:  # the next round tries again; the sweeper closes the task if its lease expires
                logger.warning("lease", extra={**leases.log_ids(self.task), "error": type(error).__name__})
                continue
            if stored is None:
                self._lost.set()
                return
            renewed = now if due else renewed
            if stored.stop_requested:
                self._stop.set()

    async def _patiently(self, close: Callable[[Task], Task]) -> Task:
        """Close the task, and try again until the deadline if DynamoDB fails. After that, the sweeper closes it."""
        while True:
            try:
                return await asyncio.to_thread(close, self.task)
            except Exception as error:
                logger.warning("close", extra={**leases.log_ids(self.task), "error": type(error).__name__})
                if clock.now() > self._deadline:
                    raise
            await asyncio.sleep(random.uniform(0.2, 1.0))  # noqa: S311 - jitter, not a secret

    def _failure(self, outcome: object) -> str:
        if isinstance(outcome, UpstreamError):
            extra = {**leases.log_ids(self.task), "code": outcome.code, "upstream": outcome.detail}
            logger.warning("upstream", extra=extra)
            return outcome.code
        if isinstance(outcome, OutOfTime):
            return "upstream_timeout"
        if isinstance(outcome, NothingToAsk):
            return "interrupted"
        if not isinstance(outcome, asyncio.CancelledError):
            at = traceback_summary(outcome) if isinstance(outcome, BaseException) else []
            logger.error("engine", extra={**leases.log_ids(self.task), "error": type(outcome).__name__, "at": at})
        return "internal_error"


def start(task: Task, deadline: float) -> Run:
    """Start the executor of a claimed task with an attached viewer. It goes on if the viewer leaves."""
    run = Run(task, deadline, attended=True)
    working = asyncio.create_task(run.work(), name=task.id)
    _working.add(working)
    working.add_done_callback(_on_done)
    return run


async def execute(task_id: str, deadline: float) -> None:
    """Claim a task, if it is still pending, and execute it without a viewer."""
    task = await asyncio.to_thread(leases.claim, task_id)
    if task:
        await Run(task, deadline, attended=False).work()


async def finish(seconds: float) -> None:
    """Wait up to `seconds` for the answers of this process to end. The sweeper closes those that are still open."""
    if _working:
        await asyncio.wait(_working, timeout=seconds)
    await dashscope_connections.close()


def _on_done(working: asyncio.Task[None]) -> None:
    _working.discard(working)
    if not working.cancelled() and (error := working.exception()):
        extra = {"task_id": working.get_name(), "error": type(error).__name__, "at": traceback_summary(error)}
        logger.error("engine", extra=extra)


def _prompt(task: Task) -> Prompt:
    if task.type == Task.TITLE:
        prompt = titles.build_prompt(task.thread, int(task.prompt_end))
        if not prompt.messages:
            raise NothingToAsk
        return prompt
    preset = prompts.get_preset(task.preset_id, int(task.preset_version))
    return prompts.build(preset, task.thread, int(task.prompt_end), task.tariff)


def _limit_sources(sources: tuple[Source, ...]) -> tuple[Source, ...]:
    left = SOURCES_BYTES
    for number, source in enumerate(sources):
        left -= len(json.dumps(source, ensure_ascii=False).encode())
        if left < 0:
            return sources[:number]
    return sources


def _reread(task: Task) -> Task:
    return Task.get(task.id, consistent_read=True)
