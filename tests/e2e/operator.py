"""An operator at a terminal, who runs `make deploy`, `admin`, `logs` and `destroy` on what `make build` has built.

They may do what docs/deployer-policy.json allows, and nothing else. Their folder is one of their own, with the project's
samconfig.toml: so the first deployment is the first.
"""

import os
import re
import shutil
import sys
from pathlib import Path

import pexpect

from local.stack.state import REGION
from local.stack.template import ROOT

STACK = "aideer-e2e"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}
QUESTION = re.compile(r"(?:^|[\r\n\t])(?P<question>[^\r\n\t]+) \[(?P<proposal>[^\r\n]*)\]: $")
BOLD = re.compile(r"\x1b\[[0-9;]*m")


class Operator:
    """Types what a person would, and keeps what is shown."""

    def __init__(self, folder: Path, endpoint: str, credentials: dict[str, str]) -> None:
        self.folder, self.endpoint = folder, endpoint
        self.asked: list[str] = []
        """The questions of the latest deployment."""
        self._environment = {
            **os.environ,
            **CREDENTIALS,
            **credentials,
            "AWS_ENDPOINT_URL": endpoint,
            "PYTHONPATH": str(ROOT),
            "SAM_CLI_TELEMETRY": "0",
            "COLUMNS": "200",
        }
        shutil.copy(ROOT / "samconfig.toml", folder)
        for name in ("template.yaml", ".aws-sam"):
            (folder / name).symlink_to(ROOT / name)

    @property
    def config(self) -> Path:
        """Where the SAM CLI keeps what it was told."""
        return self.folder / "samconfig.toml"

    def run(self, what: str, *arguments: str, stage: str = "") -> "pexpect.spawn[str]":
        """Begin `make <what> ARGS=<arguments> STAGE=<stage>`."""
        command = ["-m", "local.release.deploy", what, *arguments]
        return pexpect.spawn(
            sys.executable,
            command,
            cwd=str(self.folder),
            env={**self._environment, "STAGE": stage},
            encoding="utf-8",
            timeout=300,
            dimensions=(50, 200),
        )

    def deploy(self, answers: dict[str, str], *arguments: str) -> str:
        """`make deploy`: questions get the answers given here, by name, else a return. What was shown; it must succeed."""
        self.asked = []
        shown = ""
        terminal = self.run("deploy", *arguments)
        while terminal.expect([QUESTION, pexpect.EOF]) == 0:
            shown += f"{terminal.before}{terminal.after}"
            question = BOLD.sub("", terminal.match["question"]).removeprefix("Parameter ")
            self.asked.append(question)
            terminal.sendline(answers.get(question, ""))
        shown += str(terminal.before)
        assert ended(terminal) == 0, shown[-3000:]
        return shown


def ended(terminal: "pexpect.spawn[str]") -> int:
    """The exit code of a command that has ended, or -1 where a signal ended it."""
    terminal.close()
    return -1 if terminal.exitstatus is None else terminal.exitstatus
