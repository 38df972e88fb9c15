"""The data resources of the local stack, as its processes share them: their addresses, and the functions' environment."""

import contextlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

REGION = "us-east-1"
ACCOUNT = "000000000000"


@dataclass(frozen=True)
class Stack:
    """The data resources of a running embedded AWS."""

    endpoint: str
    environment: dict[str, str]
    """The complete environment of the functions, with endpoint, region and credentials."""
    resources: dict[str, dict[str, str]]
    """Logical id -> {"Ref": …, "Arn": …}."""

    def save(self, state_dir: Path) -> None:
        """Write it atomically into the file that the other processes read."""
        path = _path(state_dir)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(asdict(self)))
        part.replace(path)

    @classmethod
    def wait(cls, state_dir: Path, seconds: float = 120.0) -> "Stack":
        """Read the saved stack as soon as it exists.

        Raises
        ------
        TimeoutError
            It does not exist after `seconds`.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                return cls(**json.loads(_path(state_dir).read_text()))
            time.sleep(0.02)
        raise TimeoutError("the embedded AWS did not become ready")

    @staticmethod
    def forget(state_dir: Path) -> None:
        """Remove the file of an earlier stack."""
        _path(state_dir).unlink(missing_ok=True)


def _path(state_dir: Path) -> Path:
    return state_dir / "run" / "stack.json"
