"""Handlers whose code is edited while the stack runs: the workers are replaced, and everything else goes on.

The front and the background process keep the code that they started with, because answers are being made in them. Where a change
concerns them, the console says so.
"""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import watchfiles

from local.processes import ROOT

FUNCTIONS = ROOT / "functions"
SUFFIXES = (".py", ".json")
MOST_NAMED = 3


def sources(_: watchfiles.Change, path: str) -> bool:
    """Whether a change of this file is one of the product: of its code or its prices, and not of what Python keeps of them."""
    return path.endswith(SUFFIXES)


def changes(folder: Path = FUNCTIONS) -> Iterator[set[Path]]:
    """Yield the files of each change in a folder, for ever."""
    watched = watchfiles.watch(folder, watch_filter=sources, raise_interrupt=False)
    for found in watched:
        yield {Path(path) for _, path in found}


class Reloader:
    """Reloads the workers at each change, and says what that does not change.

    Parameters
    ----------
    reload
        Has workers with the present code.
    modules
        The handlers' modules that run in workers.
    say
        Writes a line that the console shows.
    """

    def __init__(self, reload: Callable[[], object], modules: Iterable[str], say: Callable[[str], object]) -> None:
        self._reload = reload
        self._handlers = {FUNCTIONS / f"{module.replace('.', '/')}.py" for module in modules}
        self._say = say

    def start(self, found: Callable[[], Iterable[set[Path]]] = changes) -> None:
        """Begin to watch, on a thread of its own."""
        threading.Thread(target=self._watch, args=(found,), name="reload", daemon=True).start()

    def _watch(self, found: Callable[[], Iterable[set[Path]]]) -> None:
        try:
            for files in found():
                self.changed(files)
        except OSError as error:  # a system that has no more watches to give
            print(f"ERROR edits are not noticed: {error.strerror}", file=sys.stderr, flush=True)

    def changed(self, files: set[Path]) -> None:
        """Act on a change of these files."""
        names = sorted(str(file.relative_to(ROOT)) for file in files)
        shown = ", ".join(names[:MOST_NAMED]) + (
            f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        )
        elsewhere = "" if files <= self._handlers else ". Streams, queues and schedules use it after a new start"
        self._say(f"RELOAD {shown}{elsewhere}")
        self._reload()
