"""Pauses of one module in tests."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


def clock_with(sleep: Callable[[float], Any] = lambda _: None) -> Any:
    """The module `time` with another `sleep`, for monkeypatch.setattr(module, "time", ...). Other threads sleep as before."""
    return SimpleNamespace(**{**vars(time), "sleep": sleep})
