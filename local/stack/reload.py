"""Replaces the workers when a handler's code is edited while the stack runs. All other processes continue.

The front and the background process keep the code that they started with, because they make answers. If a change concerns them,
the console says so.
"""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import watchfiles

from local.stack.processes import ROOT

FUNCTIONS = ROOT / "functions"
SUFFIXES = (".py", ".json")
MOST_NAMED = 3


def sources(_: watchfiles.Change, path: str) -> bool:
    """Return whether this file belongs to the product: its code or its prices, and not Python's bytecode."""
    return path.endswith(SUFFIXES)


def changes(folder: Path = FUNCTIONS) -> Iterator[set[Path]]:
    """Yield the files of each change in a folder, for ever."""
    watched = watchfiles.watch(folder, watch_filter=sources, raise_interrupt=False)
    for found in watched:
        yield {Path(path) for _, path in found}


class Reloader:
    """Reloads the workers at each change, and reports changes that need a new start.

    Parameters
    ----------
    reload
        Replaces the workers by new ones with the present code.
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
        """Begin to watch, on its own thread."""
        threading.Thread(target=self._watch, args=(found,), name="reload", daemon=True).start()

    def _watch(self, found: Callable[[], Iterable[set[Path]]]) -> None:
        try:
            for files in found():
                self.changed(files)
        except OSError as error:  # the system has no more file watches
            print(f"ERROR edits are not noticed: {error.strerror}", file=sys.stderr, flush=True)

    def changed(self, files: set[Path]) -> None:
        """Report a change of these files, and reload the workers."""
        names = sorted(str(file.relative_to(ROOT)) for file in files)
        shown = ", ".join(names[:MOST_NAMED]) + (
            f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        )
        elsewhere = "" if files <= self._handlers else ". Streams, queues and schedules use it after a new start"
        self._say(f"RELOAD {shown}{elsewhere}")
        self._reload()
