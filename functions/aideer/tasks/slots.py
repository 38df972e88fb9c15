"""Slots: how many followers and polls a user may have at one time.

A viewer that leaves is never announced, and the function behind it goes on. So open streams are limited by slots, which end by
themselves. One item of a user holds the slots of the user's followers, and another holds those of the polls. Each slot names its
task and the time until which it is taken. The item is changed under a condition on its version, so simultaneous viewers never share
a place.

A new follower always gets a slot. If the task or the user has no free one, the new follower displaces the oldest. The displaced one
notices at its next `renew`, and ends without the event `close`. A reader that is still there connects again with its position, and
such resumptions have a rate limit (stream_access.py). A poll cannot displace another: it is refused until a slot is free.

The viewer beside the executor has no slot, because its response must last as long as the answer. The viewer of an ended task has
none either, because it gets all of the text at once.

If DynamoDB does not respond, a viewer needs no slot, as in stream_access.py.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pynamodb.exceptions import PynamoDBException, UpdateError
from pynamodb.expressions.update import Action

from aideer.core import aws_errors, clock, metrics
from aideer.core.logs import logger
from aideer.data import lookup
from aideer.data.base import new_id
from aideer.data.models import Record
from aideer.data.retry import attempts
from aideer.security import limits
from aideer.security.limits import LIMITS, Kind, Limit

Group = Literal["follow", "poll"]

LEAST_SECONDS = 30
"""The least time for which a slot is taken. It is longer than a poll, and than the time between two renewals."""
_KEPT_SECONDS = 86400
_RELEASE_TRIES = 3

_Slots = list[dict[str, Any]]
"""The slots of an item, the oldest first: {"id", "task", "until"}, with `until` in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class _Item:
    """The stored item of a group: its slots that are still taken, and its version."""

    slots: _Slots
    version: int | None


@dataclass(slots=True)
class Slot:
    """The place of one follower or poll."""

    user_id: str
    group: Group
    id: str
    task_id: str
    until: int
    """The time until which the slot is taken, as far as its holder knows."""

    def renew(self) -> bool:
        """Keep the slot. Return False if another viewer has taken it. If DynamoDB does not respond, the slot counts as kept.

        A slot that ended during an outage is taken again, unless all places are taken by now.
        """
        try:
            for _ in attempts():
                item = _read(self.user_id, self.group)
                mine = next((slot for slot in item.slots if slot["id"] == self.id), None)
                if mine is None and (self.until > clock.now() or not _has_room(self.group, item.slots, self.task_id)):
                    metrics.emit({"Throttles": 1}, kind=self.group)
                    return False
                if mine and mine["until"] - clock.now() > _seconds(self.group) / 2:
                    return True
                place = item.slots.index(mine) if mine else len(item.slots)
                if self._take(item, item.slots[:place], item.slots[place + 1 :]):
                    return True
        except PynamoDBException as error:
            _require_unavailable(error)
        return True

    def release(self) -> None:
        """Free the slot. If that fails, it ends by itself."""
        try:
            for _ in range(_RELEASE_TRIES):
                item = _read(self.user_id, self.group)
                left = [slot for slot in item.slots if slot["id"] != self.id]
                if len(left) == len(item.slots) or _write(self.user_id, self.group, item, left):
                    return
        except PynamoDBException as error:
            _require_unavailable(error)

    def _take(self, item: _Item, older: _Slots, newer: _Slots) -> bool:
        """Take the slot between the others, for a full time from now. Return False if the item has changed since it was read."""
        until = _until(self.group)
        mine = {"id": self.id, "task": self.task_id, "until": until}
        if not _write(self.user_id, self.group, item, [*older, mine, *newer]):
            return False
        self.until = until
        return True


def take_follower(user_id: str, task_id: str) -> Slot | None:
    """Take a slot for a follower of this task, and displace the oldest follower if there is no free one.

    Raises TooManyRequests if so many viewers of the user come at once that they hinder each other. Return None if DynamoDB does not
    respond.
    """

    def place(item: _Item) -> _Slots:
        of_task = [slot for slot in item.slots if slot["task"] == task_id]
        leaving = of_task[: max(0, len(of_task) + 1 - LIMITS["follow_task"].times)]
        slots = [slot for slot in item.slots if slot not in leaving]
        return slots[max(0, len(slots) + 1 - LIMITS["follow"].times) :]

    return _take(user_id, "follow", task_id, place)


def take_poll(user_id: str, task_id: str) -> Slot | None:
    """Take a slot for a poll. Raises TooManyRequests if all are taken, or as `take_follower` does.

    Return None if DynamoDB does not respond.
    """

    def place(item: _Item) -> _Slots:
        if not _has_room("poll", item.slots, task_id):
            metrics.emit({"Throttles": 1}, kind="poll")
            raise limits.refusal("poll", min(slot["until"] for slot in item.slots) - clock.now())
        return item.slots

    return _take(user_id, "poll", task_id, place)


def _take(user_id: str, group: Group, task_id: str, place: Callable[[_Item], _Slots]) -> Slot | None:
    """Add a slot to those that `place` leaves."""
    slot, pause = Slot(user_id, group, new_id(), task_id, _until(group)), 0.02
    try:
        for _ in attempts():
            item = _read(user_id, group)
            if any(taken["id"] == slot.id for taken in item.slots):  # our own write, with its answer lost
                return slot
            if slot._take(item, place(item), []):
                return slot
            time.sleep(random.uniform(0.2, 1) * pause)  # noqa: S311 - jitter, not a secret
            pause = min(2 * pause, 0.4)
    except PynamoDBException as error:
        _require_unavailable(error)
        return None
    raise limits.refusal("resume" if group == "follow" else "poll", 1)


def _has_room(group: Group, slots: _Slots, task_id: str) -> bool:
    """Return whether there is a place for one viewer more of this task."""
    if group == "poll":
        return len(slots) < LIMITS["poll"].times
    of_task = sum(slot["task"] == task_id for slot in slots)
    return of_task < LIMITS["follow_task"].times and len(slots) < LIMITS["follow"].times


def _read(user_id: str, group: Group) -> _Item:
    record = lookup.find(Record, *_key(user_id, group))
    if record is None:
        return _Item([], None)
    return _Item([slot for slot in record.data["slots"] if slot["until"] > clock.now()], record.version)


def _write(user_id: str, group: Group, item: _Item, slots: _Slots) -> bool:
    """Replace the item that was read. Return False if it has changed since."""
    actions: list[Action] = [
        Record.data.set({"slots": slots}),
        Record.version.set((item.version or 0) + 1),
        Record.ttl.set(int(clock.now()) + _KEPT_SECONDS),
    ]
    try:
        Record(*_key(user_id, group)).update(actions, lookup.unchanged(Record.version, item.version))
    except UpdateError as error:
        if aws_errors.is_refusal(error):
            return False
        raise
    return True


def _key(user_id: str, group: Group) -> tuple[str, str]:
    return f"slots#{user_id}", group


def _seconds(group: Group) -> int:
    kinds: tuple[Kind, ...] = ("follow", "follow_task") if group == "follow" else ("poll",)
    given: list[Limit] = [LIMITS[kind] for kind in kinds]
    return max(LEAST_SECONDS, *(limit.seconds for limit in given))


def _until(group: Group) -> int:
    return int(clock.now()) + _seconds(group)


def _require_unavailable(error: PynamoDBException) -> None:
    """Raise the error unless DynamoDB does not respond. An outage must not end a stream: the answer was paid for."""
    if not aws_errors.is_unavailable(error):
        raise error
    logger.warning("slots", extra={"error": type(error).__name__})
