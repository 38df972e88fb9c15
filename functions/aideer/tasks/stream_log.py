"""The stream log: the text of an answer in numbered slices, for followers.

Positions count code points of one text, in the order in which it was shown (reasoning, then content). A slice is stored once,
under its start position. Only the task's executor writes, and it repeats only the same slices.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from pynamodb.exceptions import PutError

from aideer.billing.credits import Text
from aideer.core import aws_errors, clock
from aideer.data.models import Message, Task, TaskEvent

TTL_SECONDS = 24 * 3600
LONGEST = 300_000
"""The highest position of an answer: the executor cuts an answer at this number of bytes."""
LEAD = 50_000
"""The most code points by which the log lags behind the viewer beside the executor. It is the text of some ten seconds."""
SLICE_CHARACTERS = 16_384
"""The longest slice. So a slice fits an item, and a reader can find the one that holds a position."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Text of one kind ("reasoning", "content" or "tools") from a position on."""

    position: int
    kind: str
    text: str

    @property
    def end(self) -> int:
        """The position after the slice."""
        return self.position + len(self.text)


def cut_slices(position: int, pieces: list[tuple[str, str]]) -> Iterator[Slice]:
    """Join (kind, text) pieces and cut them into slices, from a position on."""
    for kind, group in groupby(pieces, key=lambda piece: piece[0]):
        text = "".join(piece[1] for piece in group)
        for start in range(0, len(text), SLICE_CHARACTERS):
            part = Slice(position, kind, text[start : start + SLICE_CHARACTERS])
            yield part
            position = part.end


def write(task_id: str, part: Slice) -> None:
    """Store a slice, if it is not stored yet."""
    event = TaskEvent(task_id, part.position, kind=part.kind, text=part.text, ttl=int(clock.now()) + TTL_SECONDS)
    try:
        event.save(condition=TaskEvent.n.does_not_exist())
    except PutError as error:
        if not aws_errors.is_refusal(error):
            raise


def read(task_id: str, position: int = 0, end: int | None = None) -> list[Slice]:
    """Return the slices from a position on (and below `end`), without gaps. The first one is cut to begin at the position."""
    events = TaskEvent.query(task_id, TaskEvent.n > position - SLICE_CHARACTERS, consistent_read=True)
    now, parts = clock.now(), []
    for event in events:
        part = Slice(int(event.n), event.kind, event.text)
        if event.ttl <= now or part.end <= position:
            continue
        if part.position > position or (end is not None and part.position >= end):
            break  # earlier slices have expired, or this one came after the task had ended
        parts.append(Slice(position, part.kind, part.text[position - part.position :]))
        position = part.end
    return parts


def find_end(task_id: str) -> int:
    """Return the position after the last slice that the log holds, or 0 without any."""
    last = next(iter(TaskEvent.query(task_id, consistent_read=True, scan_index_forward=False, limit=1)), None)
    return 0 if last is None else int(last.n) + len(last.text)


def cut_text(task: Task, answer: Message) -> Text:
    """Return the text of a task as it was streamed: its answer, without what it continued."""
    lengths = task.continued or {"reasoning": 0, "content": 0}
    return Text((answer.reasoning or "")[lengths["reasoning"] :], answer.content[lengths["content"] :])


def read_text(task_id: str, end: int | None = None) -> Text:
    """Return all text of an answer that the log holds, below position `end` if given."""
    return Text.join((part.kind, part.text) for part in read(task_id, 0, end))
