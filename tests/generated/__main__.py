"""A client generated from the OpenAPI document makes the main journey against a stack of its own: `make client`.

The document is made into a package by openapi-python-client, in a temporary folder; journey.py, which uses nothing else, runs in
.venv/tools.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from local.docs.openapi import DOCUMENT
from tests.integration.stacks import ADMIN, ROOT, running

TOOLS = ROOT / ".venv" / "tools" / "bin"
CONFIG = Path(__file__).with_name("config.yaml")
PACKAGE = "aideer_client"


def generate(folder: Path) -> None:
    """Make the package in this folder. What the generator does not understand is an error."""
    command = [str(TOOLS / "openapi-python-client"), "generate", "--path", str(DOCUMENT), "--config", str(CONFIG)]
    command += ["--output-path", str(folder / PACKAGE), "--meta", "none", "--fail-on-warning"]
    environment = {**os.environ, "PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}"}
    made = subprocess.run(command, env=environment, capture_output=True, text=True)
    if made.returncode:
        raise SystemExit(f"{made.stdout}{made.stderr}")


@contextlib.contextmanager
def _stack(url: str | None, folder: Path) -> Iterator[str]:
    if url:
        yield url
    else:
        with running(folder / "stack") as stack:
            yield stack.url


def main(arguments: list[str]) -> int:
    """Check the document, make the client and let it travel; the journey's exit code."""
    parser = argparse.ArgumentParser(prog="make client")
    parser.add_argument("--url", help="of a running stack, in place of one of its own")
    options = parser.parse_args(arguments)
    subprocess.run([TOOLS / "openapi-spec-validator", DOCUMENT], check=True)
    with tempfile.TemporaryDirectory(prefix="aideer-client-") as name:
        folder = Path(name)
        generate(folder)
        with _stack(options.url, folder) as url:
            journey = [TOOLS / "python", Path(__file__).with_name("journey.py"), url, *ADMIN]
            return subprocess.run(journey, env={**os.environ, "PYTHONPATH": name}).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
