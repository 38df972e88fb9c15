"""schemathesis against a running stack, as a user and as an admin: `make fuzz`, or ARGS=--short as .ci/run has it.

Whatever it sends, there must be no 5xx (but those that the document allows), and no status, media type, header or shape that the
document does not describe. Of schemathesis' checks two are left out: positive_data_acceptance (what fits a schema can still be
refused, for a name that is taken or a model that has no price) and unsupported_method (API Gateway answers unknown methods with
404, and adds no Allow). The calls that end their caller's own token have a run of their own, in which each request comes from
a new user.
"""

import argparse
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.integration.stacks import ADMIN, ROOT, running

SCHEMATHESIS = ROOT / ".venv" / "tools" / "bin" / "schemathesis"
NOT_CHECKED = "positive_data_acceptance,unsupported_method"
ENDING = (
    "session_delete",
    "session_refresh",
    "session_wechat_refresh",
    "users_change_password",
    "users_set_password",
    "users_delete",
)
"""Operations that take or end other tokens: the caller's own, or those of whoever is named."""
ROUNDS = (("user", "each"), ("admin",))
"""Who calls at the same time. An admin gives permissions to whomever it finds, so a user is one only before it."""


class Run(NamedTuple):
    """What came of a run."""

    cases: int
    done: int
    """How many operations answered with a 2xx (or 3xx) at least once."""
    operations: int
    found: str
    """All that was said, where anything was found."""

    def __str__(self) -> str:
        reached = f"{self.done} of {self.operations} operations did what they are for"
        return (
            f"{self.cases} cases, {reached}, {'something was found' if self.found else 'nothing found'}\n{self.found}"
        )


def fuzz(url: str, caller: str, examples: int, *, short: bool) -> Run:
    """Run as this caller."""
    ending = "--include-operation-id" if caller == "each" else "--exclude-operation-id"
    phases = "examples,fuzzing" if short else "examples,coverage,fuzzing,stateful"
    command = [str(SCHEMATHESIS), "run", f"{url}/openapi.json", "--no-color", "--continue-on-failure"]
    command += ["--checks", "all", "--exclude-checks", NOT_CHECKED, "--phases", phases, "-n", str(examples)]
    if short:
        command += ["--seed", "1"]  # CI is to say the same of the same code
    command += ["--generation-database", "none", "--suppress-health-check", "all", "--request-timeout", "60"]
    command += [word for name in ENDING for word in (ending, name)]
    environment = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks",
        "PYTHONPATH": str(ROOT),
        "FUZZ_URL": url,
        "FUZZ_AS": caller,
        "FUZZ_ADMIN": ADMIN[0],
        "FUZZ_ADMIN_PASSWORD": ADMIN[1],
    }
    with tempfile.TemporaryDirectory() as folder:  # it keeps what it finds in the current one
        counts = Path(folder) / "counts.json"
        environment["FUZZ_COUNTS"] = str(counts)
        run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        answers = json.loads(counts.read_text(encoding="utf-8")) if counts.exists() else {}
    cases = re.search(r"(\d+) generated", run.stdout)
    done = {answer.split()[0] for answer in answers if answer.split()[1] < "400"}
    found = "" if run.returncode == 0 and cases else run.stdout + run.stderr
    return Run(int(cases[1]) if cases else 0, len(done), len({answer.split()[0] for answer in answers}), found)


def main(arguments: list[str]) -> int:
    """Run all; 1 where anything was found."""
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--short", action="store_true", help="about a minute: few cases of each operation")
    parser.add_argument("--examples", type=int, default=60, help="cases of each operation, besides those of its limits")
    parser.add_argument("--as", dest="callers", action="append", choices=sum(ROUNDS, ()), help="these callers alone")
    parser.add_argument("--url", help="of a running stack, in place of one of its own")
    options = parser.parse_args(arguments)
    examples = 6 if options.short else options.examples

    def all_runs(url: str) -> bool:
        one = functools.partial(fuzz, url, examples=examples, short=options.short)
        found = False
        for callers in ROUNDS:
            wanted = [caller for caller in callers if caller in (options.callers or callers)]
            with ThreadPoolExecutor() as pool:
                for caller, run in zip(wanted, pool.map(one, wanted), strict=True):
                    print(f"{caller}: {run}", end="", flush=True)
                    found |= bool(run.found)
        return found

    if options.url:
        return int(all_runs(options.url))
    with (
        tempfile.TemporaryDirectory(prefix="aideer-fuzz-") as folder,
        running(Path(folder), SIGNUP_CREDITS="1000000000", WECHAT_LOGIN_PAGE="none") as stack,
    ):
        return int(all_runs(stack.url))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
