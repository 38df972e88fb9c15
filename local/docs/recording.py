"""`make recording`: docs/chat.svg, an animated picture of `make run` and `make chat`.

The session is real. Two shells run both commands in a new folder, which has links to the project's files and no data. So the stack
starts as it does for a new user. This module types, and writes the output into a file in asciinema's format (asciicast v2). It
shortens long waits. Then termtosvg draws that file, as an SVG with CSS animation and without a script.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import TextIO

import pexpect

from local.stack.template import ROOT

PICTURE = ROOT / "docs" / "chat.svg"
TERMTOSVG = ROOT / ".venv" / "recording" / "bin" / "termtosvg"
TEMPLATE = Path(__file__).with_name("recording.svg")
QUESTIONS = ("Hello, are you a real model?", "你好，你会说中文吗？")
"""The lines of both answers end between two words. The simulated model gives the same answer each time."""
ROWS, COLUMNS = 19, 100
FOLDER = "aideer"
"""The name of the new folder. It stands below the folder for temporary files, so that its path is short."""
LEFT_OUT = frozenset({".git", ".env", ".local"})
"""Files that a new user does not have."""
KEY_SECONDS = 0.06
LOOK_SECONDS = 1.8
WAIT_SECONDS = 0.8
"""The longest wait for output that the picture shows."""
TIMEOUT_SECONDS = 180
FRAME_MS, END_MS = 50, 3500
"""The shortest duration of a frame, and the duration of the last one."""
DIM, GRAY = "\x1b[2m", "\x1b[90m"
CLEAR = "\x1bc"
GREEN, RESET = "\x1b[1;32m", "\x1b[0m"


class Recorder:
    """Writes the output of terminals into a file. pexpect uses it as a log."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._written_at = time.monotonic()
        self._shown_at = 0.0
        self._write_line({"version": 2, "width": COLUMNS, "height": ROWS})

    def write(self, text: str) -> None:
        """Add output, after a wait that is cut if it was long. Dim text becomes gray, because termtosvg does not draw dim text."""
        now = time.monotonic()
        self._shown_at += min(now - self._written_at, WAIT_SECONDS)
        self._written_at = now
        self._write_line([round(self._shown_at, 3), "o", text.replace(DIM, GRAY)])

    def stand_still(self) -> None:
        """Give readers time to look at the screen."""
        self._shown_at += LOOK_SECONDS

    def flush(self) -> None:
        """Do nothing. pexpect calls this after each write."""

    def _write_line(self, record: object) -> None:
        print(json.dumps(record), file=self._file)


class Terminal:
    """A shell with somebody who types into it."""

    def __init__(self, folder: Path, recorder: Recorder) -> None:
        self._shell = pexpect.spawn(
            "bash",
            ["--norc", "--noprofile"],
            cwd=folder,
            env=environment(),
            dimensions=(ROWS, COLUMNS),
            encoding="utf-8",
            timeout=TIMEOUT_SECONDS,
        )
        self._shell.delaybeforesend = None
        self._shell.logfile_read = recorder
        self.wait_for(f"${RESET} ")

    def type(self, line: str) -> None:
        """Press a key for each character, and Enter."""
        for key in line:
            self._shell.send(key)
            self._shell.expect(pexpect.TIMEOUT, timeout=KEY_SECONDS)
        self._shell.send("\r")

    def wait_for(self, text: str) -> None:
        """Record until the terminal shows this text."""
        self._shell.expect_exact(text)


def environment() -> dict[str, str]:
    """Return the environment of the shells: no variable of the project but PORT."""
    kept = {name: os.environ[name] for name in ("HOME", "PATH", "PORT") if name in os.environ}
    return {**kept, "LANG": "C.UTF-8", "PS1": rf"\[{GREEN}\]$\[{RESET}\] ", "TERM": "xterm-256color"}


@contextmanager
def new_folder() -> Iterator[Path]:
    """Yield a folder with links to the project's files. At the end, stop its stack and remove it.

    Raises
    ------
    FileExistsError
        The folder exists: another recording runs, or one was killed.
    """
    folder = Path(tempfile.gettempdir()).resolve() / FOLDER
    folder.mkdir(mode=0o700)
    try:
        for path in ROOT.iterdir():
            if path.name not in LEFT_OUT:
                (folder / path.name).symlink_to(path)
        yield folder
    finally:
        subprocess.run(["make", "stop"], cwd=folder, env=environment(), stdout=subprocess.DEVNULL, check=False)
        rmtree(folder)


def record(folder: Path, recorder: Recorder) -> None:
    """Play the session: start the stack, and ask the questions in another terminal."""
    server = Terminal(folder, recorder)
    server.type("make run")
    server.wait_for("Ctrl-C\r\n")
    recorder.stand_still()
    recorder.write(CLEAR)
    user = Terminal(folder, recorder)
    user.type("make chat  # in another terminal")
    user.wait_for("› ")
    for question in QUESTIONS:
        recorder.stand_still()
        user.type(question)
        user.wait_for(" left")
        user.wait_for("› ")


def main() -> int:
    """Record the session, and draw it."""
    with tempfile.TemporaryDirectory() as temporary:
        cast = Path(temporary) / "chat.cast"
        try:
            with new_folder() as folder, cast.open("w", encoding="utf-8") as file:
                record(folder, Recorder(file))
        except FileExistsError as error:
            print(f"{error.filename} exists. Remove it if no other recording runs.", file=sys.stderr)
            return 1
        except (pexpect.TIMEOUT, pexpect.EOF) as error:
            print(f"The session did not go on as expected:\n{error}", file=sys.stderr)
            return 1
        options = ["-t", str(TEMPLATE), "-m", str(FRAME_MS), "-D", str(END_MS)]
        subprocess.run([TERMTOSVG, "render", cast, PICTURE, *options], stderr=subprocess.DEVNULL, check=True)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
