"""One measured answer: when its requests were sent, and when each piece of its text arrived."""

import contextlib
import gc
import http.client
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

PART_BYTES = 65536


class BenchError(Exception):
    """The answer is not the requested one, so the figures would be meaningless."""


@dataclass
class Answer:
    """One answer, with the time of each arrival. Times are those of time.perf_counter()."""

    asked: float
    """The time at which its first request was sent."""
    started: float
    """The time from which its last token counts."""
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
        """Milliseconds from `started` to the last text."""
        return (self.arrivals[-1][0] - self.started) * 1000

    @property
    def whole_ms(self) -> float:
        """Milliseconds from the first request to the last text."""
        return (self.arrivals[-1][0] - self.asked) * 1000

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


@contextlib.contextmanager
def pause_collector() -> Iterator[None]:
    """Keep this process's garbage collector out of the measurement."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def read_parts(response: http.client.HTTPResponse) -> list[tuple[float, bytes]]:
    """Read a body to its end. Return its parts, each with the time of its arrival. Raise BenchError if it is a refusal."""
    if response.status != 200:
        raise BenchError(f"refused with {response.status}: {response.read(500).decode(errors='replace')}")
    parts = []
    while part := response.read1(PART_BYTES):
        parts.append((time.perf_counter(), part))
    return parts


def split_events(received: list[tuple[float, bytes]]) -> Iterator[tuple[float, dict[str, str]]]:
    """Yield the events that have data, each with the time at which its last byte arrived. Skip comments."""
    rest = b""
    for moment, part in received:
        *blocks, rest = (rest + part).split(b"\n\n")
        for block in blocks:
            fields = (line.partition(":") for line in block.decode().split("\n") if not line.startswith(":"))
            event = {name: value.removeprefix(" ") for name, _, value in fields}
            if "data" in event:
                yield moment, event
