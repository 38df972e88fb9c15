"""The executor makes one answer, from its claim to its close (closing.py).

The executor runs as a separate task on the event loop. So it goes on if a viewer leaves, and a slow viewer does not delay it.
Viewers read `Run.shown` at their own pace. While the answer comes, one loop renews the lease and looks for a stop request. Another
loop writes the stream log. Calls of DynamoDB run in threads.

The provider bills a call from the moment it accepts it (HTTP 200). So the executor never repeats an accepted call. After a stop, it
keeps the connection until the provider has reported its usage.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

from aideer.billing import credits
from aideer.core import aws, clock, metrics, settings
from aideer.core.errors import traceback_summary
from aideer.core.logs import logger
from aideer.data import jobs, lookup
from aideer.data.models import Message, Task
from aideer.prompts import input_tokens, prompts
from aideer.prompts.prompts import Prompt
from aideer.providers import dashscope, dashscope_connections
from aideer.providers.dashscope import Chunk, UpstreamError
from aideer.providers.dashscope_connections import Call
from aideer.tasks import leases, titles
from aideer.tasks.closing import Closing, NothingToAsk, OutOfTime, PromptChangedError
from aideer.tasks.log_writer import LogWriter
from aideer.tasks.received import TEXT_BYTES, Received
from aideer.uploads import provider_images

IDLE_SECONDS = 60.0
"""The longest time in seconds without progress, after the first text."""
FIRST_SECONDS, TOKENS_A_SECOND = 60.0, 5_000
"""The longest wait for the first text: FIRST_SECONDS, and one second more for each TOKENS_A_SECOND tokens of the prompt."""
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
_working: set[asyncio.Task[None]] = set()


class Run:
    """One executor's work on one claimed task."""

    def __init__(self, task: Task, deadline: float, *, attended: bool, prompt: Prompt | None = None) -> None:
        self.task = task
        self.received = Received(TEXT_BYTES - (task.continued or {}).get("bytes", 0))
        self.asked = asyncio.Event()
        """Set when the executor calls the model. From then on it only waits, so other work does not delay it."""
        self.over = False
        self.end: Task | None = None
        """The task as it is stored after the run. It is None if the task could neither be closed nor read."""
        self._deadline = deadline
        self._attended = attended
        self._prompt = prompt
        self._call = Call()
        self._usage_known = asyncio.Event()
        self._called_at = self._first_text_at = 0.0
        self._changed = asyncio.Event()
        self._stop, self._lost = asyncio.Event(), asyncio.Event()
        self._log = LogWriter(task, self.shown, FLUSH_ATTENDED if attended else FLUSH_ALONE)

    @property
    def shown(self) -> list[tuple[str, str]]:
        """(kind, text) in order of arrival. The executor only appends to it."""
        return self.received.shown

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
        # Only now: neither the answer nor the end of its stream waits for it.
        if self.task.entitles and self.end and self.end.closed_by == self.task.executor:
            await asyncio.to_thread(_request_title, self.task)

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
        closing = Closing(self.task, self.received, self._call, self._prompt)
        reason = outcome if in_time else OutOfTime()
        return await asyncio.to_thread(closing.choose, reason, stopped=self._stop.is_set())

    async def _wait(self, *tasks: asyncio.Task[Any], seconds: float = float("inf")) -> None:
        """Wait for the first of these tasks: for `seconds`, or until only SETTLE_SECONDS are left before the deadline."""
        left = self._deadline - SETTLE_SECONDS - clock.now()
        await asyncio.wait(tasks, timeout=max(min(left, seconds), 0), return_when=asyncio.FIRST_COMPLETED)

    async def _learn_usage(self, pump: asyncio.Task[str], lost: asyncio.Task[Any]) -> None:
        """After a stop, wait for the usage. The provider may have accepted the call, and then it bills at least the input."""
        self.received.muted = True
        if self._call.sent and not self._usage_known.is_set():
            known = asyncio.create_task(self._usage_known.wait())
            await self._wait(pump, lost, known, seconds=self._first_seconds)
            known.cancel()

    @property
    def _first_seconds(self) -> float:
        tokens = sum(len(text.encode()) for text in self._prompt.contents) if self._prompt else 0  # an upper bound
        return FIRST_SECONDS + tokens / TOKENS_A_SECOND

    async def _pump(self) -> str:
        """Show the model's text as it comes, and return its finish_reason."""
        task = self.task
        prompt, api_key = await asyncio.gather(
            self._get_prompt(), aws.run_with_secret(settings.DASHSCOPE_SECRET_ARN, aws.read_dashscope_api_key)
        )
        messages = (
            await asyncio.to_thread(provider_images.resolve, prompt.messages) if prompt.images else prompt.messages
        )
        give_up_at, pause = clock.now() + RETRY_SECONDS, 0.5
        asyncio.get_running_loop().call_soon(self.asked.set)
        while True:
            self._called_at, self._call = clock.now(), Call()
            try:
                async with aclosing(
                    dashscope.stream(
                        task.model,
                        messages,
                        {**task.parameters, **prompt.beside},
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

    async def _get_prompt(self) -> Prompt:
        if self._prompt is None:
            self._prompt = await asyncio.to_thread(_read_prompt, self.task)
        return self._prompt

    async def _relay(self, answer: AsyncGenerator[Chunk, None]) -> str:
        received, finish_reason = self.received, ""
        async for chunk in answer:
            if received.add(chunk):
                self._first_text_at = self._first_text_at or clock.now()
                self._notify()
                self._log.notice()
            if received.usage and received.usage.input_tokens:
                self._usage_known.set()
            finish_reason = chunk.finish_reason or finish_reason
            # Without a usage the relay reads on: the provider may report it at the end.
            if received.cut and received.usage and not finish_reason:
                return "length"
        return "length" if received.cut and finish_reason != "content_filter" else finish_reason

    def _measure(self) -> None:
        if not self._first_text_at:
            return
        values = {"ProviderTimeToFirstToken": (self._first_text_at - self._called_at) * 1000}
        if self._attended:
            self.task.first_token_ms = (self._first_text_at - clock.parse(self.task.create_time)) * 1000
            values["TimeToFirstToken"] = self.task.first_token_ms
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
                renewal = partial(leases.renew, usage=self.received.usage) if due else leases.reload_if_owner
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


def start(task: Task, deadline: float, prompt: Prompt | None = None) -> Run:
    """Start the executor of a claimed task with an attached viewer. It goes on if the viewer leaves.

    It reads the prompt, unless the caller has it from the admission.
    """
    run = Run(task, deadline, attended=True, prompt=prompt)
    working = asyncio.create_task(run.work(), name=task.id)
    _working.add(working)
    working.add_done_callback(_on_done)
    return run


async def execute(task_id: str, deadline: float) -> None:
    """Claim a task, if it is still pending, and execute it without a viewer."""
    task = await asyncio.to_thread(leases.claim, task_id)
    if task:
        await execute_claimed(task, deadline)


async def execute_claimed(task: Task, deadline: float) -> None:
    """Execute a task that this caller has just claimed, without a viewer."""
    await Run(task, deadline, attended=False).work()


async def finish(seconds: float) -> None:
    """Wait up to `seconds` for the answers of this event loop to end. The sweeper closes those that are still open."""
    loop = asyncio.get_running_loop()  # a task of another thread's loop would not wake this one
    if own := [task for task in list(_working) if task.get_loop() is loop]:
        await asyncio.wait(own, timeout=seconds)
    await dashscope_connections.close()


def _on_done(working: asyncio.Task[None]) -> None:
    _working.discard(working)
    if not working.cancelled() and (error := working.exception()):
        extra = {"task_id": working.get_name(), "error": type(error).__name__, "at": traceback_summary(error)}
        logger.error("engine", extra=extra)


def _read_prompt(task: Task) -> Prompt:
    prompt = _build_prompt(task)
    if not input_tokens.is_within(task.tariff, prompt, task.parameters, task.input_tokens):
        raise PromptChangedError  # a message was edited after a title was priced: the hold does not cover this prompt
    return prompt


def _build_prompt(task: Task) -> Prompt:
    if task.type == Task.TITLE:
        prompt = titles.build_prompt(task.segments, int(task.prompt_end))
        if not prompt.messages:
            raise NothingToAsk
        return prompt
    preset = prompts.get_preset(task.preset_id, int(task.preset_version))
    added: list[Message] = []
    if task.continued:
        if (answer := lookup.find(Message, task.thread, int(task.replaces))) is None:
            raise NothingToAsk
        added = prompts.continue_answer(answer)
    return prompts.build(preset, task.segments, int(task.prompt_end), task.tariff, added)


def _request_title(task: Task) -> None:
    try:
        jobs.send_named(credits.TITLE_JOB, task.create_time, task.id)
    except Exception as error:  # the sweeper sends the job later
        logger.warning("title", extra={**leases.log_ids(task), "error": type(error).__name__})


def _reread(task: Task) -> Task:
    return Task.get(task.id, consistent_read=True)
