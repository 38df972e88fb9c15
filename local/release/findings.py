"""What `make deploy` finds out about an account before it builds: one sentence each, with a level."""

from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """How much a finding matters."""

    FINE = "ok"
    WARNING = "warning"
    REFUSAL = "refused"
    """The deployment cannot work."""


@dataclass(frozen=True)
class Finding:
    """One finding, in plain sentences."""

    level: Level
    text: str


def fine(text: str) -> Finding:
    """Return a finding that needs no action."""
    return Finding(Level.FINE, text)


def warning(text: str) -> Finding:
    """Return a finding that the operator should act on. The deployment works."""
    return Finding(Level.WARNING, text)


def refusal(text: str) -> Finding:
    """Return a finding that makes the deployment impossible."""
    return Finding(Level.REFUSAL, text)
