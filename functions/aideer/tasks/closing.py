"""The close of a task after its answer: its status, what the user pays, and what no user pays.

The user pays the reported usage. If the provider reported none for an accepted call, or failed after it, the loss of the operator
is counted (uncovered.py), which bounds how often a user can cause such ends.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Literal

from aideer.billing import credits, uncovered
from aideer.billing.credits import Closer
from aideer.core.errors import traceback_summary
from aideer.core.logs import logger
from aideer.core.usage import Usage
from aideer.data.models import Task
from aideer.prompts import input_tokens
from aideer.prompts.prompts import Prompt
from aideer.providers.dashscope import UpstreamError
from aideer.providers.dashscope_connections import Call
from aideer.tasks import leases
from aideer.tasks.received import Received


class OutOfTime(Exception):
    """The deadline came before the end of the answer."""


class NothingToAsk(Exception):
    """The messages that a title would describe are gone."""


class PromptChangedError(Exception):
    """The prompt has become longer than what was priced."""


class Closing:
    """Decides how a task is closed. `prompt` is None if it was not read, and `call` is the last call of the provider."""

    def __init__(self, task: Task, received: Received, call: Call, prompt: Prompt | None) -> None:
        self._task, self._received, self._call, self._prompt = task, received, call, prompt
        self._closer = Closer.executor(task.executor)

    def choose(self, outcome: object, *, stopped: bool) -> Callable[[Task], Task]:
        """Return the function that closes the task. `outcome` is the answer's finish_reason, or an exception.

        It may count tokens, which takes processor time. Call it in a thread.
        """
        received, text, usage = self._received, self._received.text, self._received.usage
        if isinstance(outcome, str) and not received.muted:
            return self._settling("finished", outcome, usage)
        if stopped:
            return self._settling("stopped", "stopped", self._billed)
        cut = isinstance(outcome, UpstreamError) and received.cut  # what comes behind the cut changes no answer
        if cut or (isinstance(outcome, OutOfTime) and (usage or len(text))):
            return self._settling("finished", "length", usage)
        code, lost = self._failure(outcome), self._unpaid(self._billed, None)
        return lambda task: credits.release(task, self._closer, code, text, usage, uncovered_credits=lost)

    def _settling(
        self, status: Literal["finished", "stopped"], finish_reason: str, usage: Usage | None
    ) -> Callable[[Task], Task]:
        received = self._received
        uncounted = None if received.usage else self._unpaid(usage or self._billed, usage)
        settle = partial(credits.settle, thought=received.thought, uncounted_credits=uncounted)
        text, paid = received.text, usage or Usage()
        return lambda task: settle(task, self._closer, status, text, finish_reason, paid, received.sources)

    @property
    def _billed(self) -> Usage | None:
        """The usage that the provider bills, as far as it can be known.

        An accepted call without reported usage costs its input.
        """
        if self._received.usage or not (self._call.accepted and self._prompt):
            return self._received.usage
        return input_tokens.count(self._task.tariff, self._prompt, self._task.parameters)

    def _unpaid(self, billed: Usage | None, paid: Usage | None) -> int:
        """Return the credits that the provider bills and the user does not pay.

        If the provider reported no usage for an accepted call, this is the likely cost, at most the hold.
        """
        cost = partial(uncovered.compute_cost, self._task, thought=self._received.thought)
        if self._received.usage or billed is None:
            return cost(self._received.usage)
        output_tokens = input_tokens.count_texts(self._task.tariff, self._received.all_texts)
        likely = cost(billed._replace(output_tokens=output_tokens))
        return max(min(likely, int(self._task.hold)) - cost(paid), 0)

    def _failure(self, outcome: object) -> str:
        ids = leases.log_ids(self._task)
        if isinstance(outcome, UpstreamError):
            logger.warning("upstream", extra={**ids, "code": outcome.code, "upstream": outcome.detail})
            return outcome.code
        if isinstance(outcome, OutOfTime):
            return "upstream_timeout"
        if isinstance(outcome, NothingToAsk):
            return "interrupted"
        if isinstance(outcome, PromptChangedError):
            return "prompt_changed"
        if not isinstance(outcome, asyncio.CancelledError):
            at = traceback_summary(outcome) if isinstance(outcome, BaseException) else []
            logger.error("engine", extra={**ids, "error": type(outcome).__name__, "at": at})
        return "internal_error"
