"""Warm processes. A process does at its start what its first request would wait for, and answers pings that keep it alive.

A step is a function without arguments, such as reading the signing key. It runs when its module is imported, but only in Lambda:
elsewhere an import makes no calls. If a step fails, the first request does the work.

With SnapStart, Lambda takes a snapshot after the start, and runs copies of it later. A copy must not use the connections, the
random numbers and the secrets of its original. So each copy drops them, and runs the steps again.
"""

import functools
import random
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from aideer.core import settings
from aideer.core.errors import traceback_summary
from aideer.core.logs import logger

PING = {"aideer": "ping"}
"""The event that keeps a process warm. API Gateway, queues and schedules send no such event."""
PONG = {"aideer": "pong"}

P = ParamSpec("P")
R = TypeVar("R")
_steps: list[Callable[[], Any]] = []


def at_start(step: Callable[[], R]) -> Callable[[], R]:
    """Run this step now, if this is the start of a process in Lambda, and after each restore from a snapshot. A decorator."""
    if settings.INITIALIZATION:
        if settings.INITIALIZATION == "snap-start" and not _steps:
            _register_restore()
        _steps.append(step)
        _try(step)
    return step


def answers_pings(handler: Callable[[Any, Any], R]) -> Callable[[Any, Any], R | dict[str, str]]:
    """Let Lambda's entry answer pings before anything else. A decorator, which must be the outermost."""

    @functools.wraps(handler)
    def entry(event: Any, context: Any) -> R | dict[str, str]:
        return PONG if event == PING else handler(event, context)

    return entry


def restore() -> None:
    """Give this copy of a snapshot its own random numbers, secrets and connections."""
    from aideer.core import aws  # imported here: functions that call no AWS service have no snapshot of it

    random.seed()  # jitter only: ids and secrets come from the system, which never repeats itself
    aws.forget()
    for step in _steps:
        _try(step)


def _register_restore() -> None:
    from snapshot_restore_py import register_after_restore  # type: ignore[import-not-found]  # a part of Lambda's runtime

    register_after_restore(restore)


def _try(step: Callable[[], Any]) -> None:
    try:
        step()
    except Exception as error:  # whatever it is: the first request meets it again, and answers it
        logger.warning("start", extra={"error": type(error).__name__, "at": traceback_summary(error)})
