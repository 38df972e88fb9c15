"""`make stop`: stop the stack of STATE_DIR, from any terminal."""

import signal
import sys
import time

from local.stack.processes import Processes
from local.stack.settings import SettingsError, state_dir

STOP_SECONDS = 90.0
AGAIN_SECONDS = 1.0


def main() -> int:
    """Stop the stack."""
    try:
        folder = state_dir()  # a stack can be stopped even if the other variables are wrong
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 1
    processes = Processes(folder)
    everything = [processes.launcher, *processes.logged]
    try:
        runs = any(process.pid for process in everything)
    except OSError as error:
        print(f"STATE_DIR {folder} cannot be read: {error.strerror}", file=sys.stderr)
        return 1
    if not runs:
        print(f"nothing runs with STATE_DIR {folder}")
        return 0
    stop(processes)
    print("stopped")
    return 0


def stop(processes: Processes) -> None:
    """Have the launcher stop everything, then stop the rest.

    The signal can kill a launcher that has just started, and the supervisor then starts another. So the signal is sent
    repeatedly, to the current launcher.
    """
    give_up_at = time.monotonic() + STOP_SECONDS
    while time.monotonic() < give_up_at:
        processes.launcher.signal(signal.SIGTERM)
        if processes.launcher.wait(AGAIN_SECONDS):
            processes.supervisor.stop(10)
            if not processes.launcher.pid:
                break
    processes.stop()


if __name__ == "__main__":
    sys.exit(main())
