"""The task engine: one executor makes one answer, from its claim to its settle.

It runs as a task of its own on the event loop, so that a viewer who leaves changes nothing, and one who is slow delays
nothing: viewers read `Run.shown` at their own pace. While the answer comes, one loop keeps the lease and watches for a stop,
and another writes the stream log. The model is never called again once text has come; DynamoDB is called in threads.
"""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from aws_lambda_powertools import Logger

from aideer import aws, clock, connections, credits, dashscope, leases, metrics, prompts, settings, streamlog, titles
from aideer.credits import Closer, Text
from aideer.dashscope import Chunk, UpstreamError
from aideer.errors import place
from aideer.models import Task
from aideer.prompts import Prompt
from aideer.streamlog import Slice
from aideer.usage import Usage

IDLE_SECONDS = 60.0
"""The longest silence of a provider."""
TEXT_BYTES = 300_000
"""Reasoning and content together, in UTF-8: what a message item holds with room to spare."""
SETTLE_SECONDS = 15.0
"""Kept free before the deadline to save and bill."""
SILENT_SECONDS = 10.0
"""Whoever has said something within this time is talking: then it is the deadline that ends the answer, like any other length."""
RETRY_SECONDS = 60.0
"""How long a throttled call is tried again before its first token."""
STOP_SECONDS = 0.7
"""How often the executor looks for a stop."""
FLUSH_ATTENDED, FLUSH_ALONE = 1.0, 0.2
"""How long shown text may wait for the log: its readers are second viewers then, or all there are."""
FLUSH_PIECES = 1_000

logger = Logger(service="aideer")
_working: set[asyncio.Task[None]] = set()


class Run:
    """One executor's work on one claimed task."""

    def __init__(self, task: Task, deadline: float, *, attended: bool) -> None:
        self.task = task
        self.shown: list[tuple[str, str]] = []
        """(kind, text) as it came; only ever appended to."""
        self.asked = asyncio.Event()
        """Set once the model has been asked: from then on, waiting is all there is to do."""
        self.over = False
        self.end: Task | None = None
        """The task as it is stored, once this is over; None if not even that could be learnt."""
        self._deadline = deadline
        self._attended = attended
        self._flush_seconds = FLUSH_ATTENDED if attended else FLUSH_ALONE
        self._closer = Closer.executor(task.executor)
        self._usage: Usage | None = None
        self._called_at = self._first_text_at = self._latest_text_at = 0.0
        self._bytes = 0
        self._changed, self._flush_now = asyncio.Event(), asyncio.Event()
        self._stop, self._lost = asyncio.Event(), asyncio.Event()
        # Slices are cut once: writing one again after a lost answer must repeat it exactly.
        self._cut = 0
        self._position = 0
        self._unwritten: deque[Slice] = deque()
        self._writing = asyncio.Lock()

    @property
    def text(self) -> Text:
        """All that was shown."""
        return Text(
            reasoning="".join(text for kind, text in self.shown if kind == "reasoning"),
            content="".join(text for kind, text in self.shown if kind == "content"),
        )

    async def changed(self, seen: int, seconds: float) -> bool:
        """Wait until more than `seen` pieces are shown or all is over; False after `seconds` of silence."""
        try:
            async with asyncio.timeout(seconds):
                while len(self.shown) <= seen and not self.over:
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def work(self) -> None:
        """Make the answer and close the task; afterwards `end` says how."""
        keepers = [asyncio.create_task(self._keep_lease()), asyncio.create_task(self._keep_log())]
        try:
            close = await self._answer()
            await self._flush()
            self.end = await self._patiently(_stored if self._lost.is_set() else close)
        finally:
            for keeper in keepers:
                keeper.cancel()
            self.over = True
            self.asked.set()
            self._notify()

    async def _answer(self) -> Callable[[Task], Task]:
        """Call the model until it ends, fails, or is stopped; return how to close the task."""
        pump = asyncio.create_task(self._pump())
        signals = [asyncio.create_task(signal.wait()) for signal in (self._stop, self._lost)]
        patience = self._deadline - SETTLE_SECONDS - clock.now()
        await asyncio.wait([pump, *signals], timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        in_time = pump.done() or self._stop.is_set() or self._lost.is_set()
        talking = clock.now() - self._latest_text_at < SILENT_SECONDS
        for pending in (pump, *signals):
            pending.cancel()
        outcome, *_ = await asyncio.gather(pump, *signals, return_exceptions=True)
        self._measure()
        closer, text, usage = self._closer, self.text, self._usage
        if isinstance(outcome, str) and len(text):
            return lambda task: credits.settle(task, closer, "finished", text, outcome, usage or Usage(0, 0))
        if isinstance(outcome, str):
            return lambda task: credits.release(task, closer, "empty_answer", text, usage)
        if self._stop.is_set():
            return lambda task: credits.settle(task, closer, "stopped", text, "stopped", usage or Usage(0, 0))
        if not in_time and talking:
            return lambda task: credits.settle(task, closer, "finished", text, "length", usage or Usage(0, 0))
        code = self._failure(outcome) if in_time else "upstream_timeout"
        return lambda task: credits.release(task, closer, code, text, usage)

    async def _pump(self) -> str:
        """Show what the model says as it says it, and return its finish_reason."""
        task = self.task
        prompt, api_key = await asyncio.gather(
            asyncio.to_thread(_prompt, task),
            asyncio.to_thread(aws.dashscope_api_key),
        )
        give_up_at, pause = clock.now() + RETRY_SECONDS, 0.5
        asyncio.get_running_loop().call_soon(self.asked.set)
        while True:
            self._called_at = clock.now()
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
                    )
                ) as answer:
                    return await self._relay(answer)
            except UpstreamError as error:
                # Only a refusal for lack of room is tried again: anything else may have cost the provider's work.
                if error.code != "throttled" or self.shown or clock.now() + pause > give_up_at:
                    raise
            metrics.emit({"ProviderThrottles": 1})
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
            pause = min(pause * 2, 8.0)

    async def _relay(self, answer: AsyncGenerator[Chunk, None]) -> str:
        finish_reason = ""
        async for chunk in answer:
            self._usage = chunk.usage or self._usage
            finish_reason = chunk.finish_reason or finish_reason
            if not (self._show("reasoning", chunk.reasoning) and self._show("content", chunk.content)):
                return "length"
        return finish_reason

    def _show(self, kind: str, text: str) -> bool:
        """Show a piece of text; False where it was cut, because an answer may not grow further."""
        if not text:
            return True
        size = len(text.encode())
        room = TEXT_BYTES - self._bytes
        if size > room:
            text = text.encode()[:room].decode(errors="ignore")
        self._bytes += size
        self._latest_text_at = clock.now()
        self._first_text_at = self._first_text_at or self._latest_text_at
        self.shown.append((kind, text))
        self._notify()
        if len(self.shown) - self._cut >= FLUSH_PIECES:
            self._flush_now.set()
        return size <= room

    def _measure(self) -> None:
        if not self._first_text_at:
            return
        values = {"ProviderTimeToFirstToken": (self._first_text_at - self._called_at) * 1000}
        if self._attended:
            values["TimeToFirstToken"] = (self._first_text_at - clock.seconds(self.task.create_time)) * 1000
        metrics.emit(values)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _keep_lease(self) -> None:
        """Renew the lease in time, and see a stop or the loss of the task within a second."""
        renewed = clock.now()
        while True:
            await asyncio.sleep(min(STOP_SECONDS, leases.RENEW_SECONDS))
            now = clock.now()
            due = now - renewed >= leases.RENEW_SECONDS - STOP_SECONDS
            try:
                stored = await asyncio.to_thread(leases.renew if due else leases.mine, self.task)
            except Exception as error:  # the next round tries again; a lease that runs out is the sweep's
                logger.warning("lease", extra={**leases.who(self.task), "error": type(error).__name__})
                continue
            if stored is None:
                self._lost.set()
                return
            renewed = now if due else renewed
            if stored.stop_requested:
                self._stop.set()

    async def _keep_log(self) -> None:
        """Write what is shown to the log, by time and by size."""
        while True:
            await _any_of(self._flush_now, self._flush_seconds)
            self._flush_now.clear()
            await self._flush()

    async def _flush(self) -> None:
        async with self._writing:
            for part in streamlog.slices(self._position, self.shown[self._cut :]):
                self._unwritten.append(part)
                self._position = part.end
            self._cut = len(self.shown)
            try:
                while self._unwritten:
                    await asyncio.to_thread(streamlog.write, self.task.id, self._unwritten[0])
                    self._unwritten.popleft()
            except Exception as error:  # the next flush goes on here; the message does not need the log
                logger.warning("log", extra={**leases.who(self.task), "error": type(error).__name__})

    async def _patiently(self, close: Callable[[Task], Task]) -> Task:
        """Close the task, again and again while DynamoDB fails, up to the deadline: then the sweep will."""
        while True:
            try:
                return await asyncio.to_thread(close, self.task)
            except Exception as error:
                logger.warning("close", extra={**leases.who(self.task), "error": type(error).__name__})
                if clock.now() > self._deadline:
                    raise
            await asyncio.sleep(random.uniform(0.2, 1.0))  # noqa: S311 - jitter, not a secret

    def _failure(self, outcome: object) -> str:
        if isinstance(outcome, UpstreamError):
            extra = {**leases.who(self.task), "code": outcome.code, "upstream": outcome.detail}
            logger.warning("upstream", extra=extra)
            return outcome.code
        if not isinstance(outcome, asyncio.CancelledError):
            at = place(outcome) if isinstance(outcome, BaseException) else []
            logger.error("engine", extra={**leases.who(self.task), "error": type(outcome).__name__, "at": at})
        return "internal_error"


def start(task: Task, deadline: float) -> Run:
    """Begin to work on a claimed task with a viewer attached; it goes on whether or not the viewer stays."""
    run = Run(task, deadline, attended=True)
    working = asyncio.create_task(run.work(), name=task.id)
    _working.add(working)
    working.add_done_callback(_worked)
    return run


async def execute(task_id: str, deadline: float) -> None:
    """Claim a task, where it is still pending, and work on it with nobody watching."""
    task = await asyncio.to_thread(leases.claim, task_id)
    if task:
        await Run(task, deadline, attended=False).work()


async def finish(seconds: float) -> None:
    """Give the answers of this process a moment to end: what is still open then, the sweep closes."""
    if _working:
        await asyncio.wait(_working, timeout=seconds)
    await connections.close()


def _worked(working: asyncio.Task[None]) -> None:
    _working.discard(working)
    if not working.cancelled() and (error := working.exception()):
        extra = {"task_id": working.get_name(), "error": type(error).__name__, "at": place(error)}
        logger.error("engine", extra=extra)


def _prompt(task: Task) -> Prompt:
    if task.type == titles.TYPE:
        return titles.prompt(task.thread, int(task.prompt_end))
    preset = prompts.pinned(task.preset_id, int(task.preset_version))
    return prompts.build(preset, task.thread, int(task.prompt_end), task.tariff["context"])


def _stored(task: Task) -> Task:
    return Task.get(task.id, consistent_read=True)


async def _any_of(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
