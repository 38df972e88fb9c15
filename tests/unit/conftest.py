"""The fast tier: its tests start no process, call no AWS, and connect to no other machine.

A test that does so fails and is told where it belongs. This holds in `make test` too.
"""

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import EMBEDDED_AWS

ELSEWHERE = "Tests of tests/unit do without: move this one to tests/integration."
PROCESSES = ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system")
LOOPBACK = ("127.0.0.1", "::1", "localhost")
_guarding = False


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    """Python tells this of each such event in the process (PEP 578). A hook stays until the process ends."""
    if not _guarding:
        return
    if event in PROCESSES and arguments[:1] != ("uname",):  # which Python's own module `platform` asks once
        pytest.fail(f"This test starts a process ({event}). {ELSEWHERE}")
    if event == "socket.connect" and isinstance(arguments[1], tuple) and arguments[1][0] not in LOOPBACK:
        pytest.fail(f"This test connects to {arguments[1][0]}. {ELSEWHERE}")


sys.addaudithook(_guard)


@pytest.fixture(autouse=True)
def guarded(pytestconfig: pytest.Config) -> Iterator[None]:
    """Refuse what the fast tier does without."""
    global _guarding
    aws = pytestconfig.stash[EMBEDDED_AWS]
    aws.refusal, _guarding = f"This test calls AWS. {ELSEWHERE}", True
    try:
        yield
    finally:
        aws.refusal, _guarding = None, False
