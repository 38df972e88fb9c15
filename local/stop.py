"""`make stop`: stops the stack of STATE_DIR, whoever started it."""

import signal
import sys

from local.processes import Processes
from local.settings import Settings, SettingsError

STOP_SECONDS = 90.0


def main() -> int:
    """Stop it."""
    try:
        settings = Settings.read()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 1
    processes = Processes(settings.state_dir)
    everything = [processes.launcher, *processes.logged]
    if not any(process.pid for process in everything):
        print(f"nothing runs with STATE_DIR {settings.state_dir}")
        return 0
    processes.launcher.signal(signal.SIGTERM)
    processes.launcher.wait(STOP_SECONDS)
    processes.stop()  # what a launcher that was killed could not stop
    print("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
