"""`make sam`: an embedded AWS for `sam local`, because what runs in containers cannot reach the loopback of `make run`.

It runs until Ctrl-C, with a simulated DashScope and WeChat beside it, and prints the commands with which the SAM CLI runs the
functions that `make build` has built, in Lambda's own image. What it holds is gone when it ends.
"""

import contextlib
import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from local import aws, docker, wechat
from local.build import BUILD
from local.dashscope import Server
from local.docker import Host
from local.settings import SIMULATED_WECHAT
from local.stack import REGION, Stack

TEMPLATE = BUILD / "template.yaml"
VARIABLES = Path(".local/sam.json")
COMMANDS = f"""In another terminal:
    .venv/bin/sam local start-api --env-vars {VARIABLES}
    .venv/bin/sam local invoke HealthGetFunction --event events/health/get.json --env-vars {VARIABLES}"""


@dataclass(frozen=True)
class Ground:
    """What functions in containers stand on."""

    stack: Stack
    people: wechat.Server
    variables: Path
    """The file that `sam local` takes with --env-vars."""

    @property
    def options(self) -> list[str]:
        """What every command of `sam local` wants."""
        return ["--template", str(TEMPLATE), "--env-vars", str(self.variables), "--region", REGION, "--skip-pull-image"]


@contextlib.contextmanager
def ground(folder: Path, variables: Path) -> Iterator[Ground]:
    """Run it all, with its data in this folder, and write functions' environment where `sam local` is to read it."""
    host = Host.find()
    with (
        Server(tokens=12, delay_ms=2, host=host.bind) as model,
        wechat.Server(host=host.bind) as people,
        aws.running(folder, host=host.bind, overrides=_elsewhere(host, model, people)) as stack,
    ):
        aws.write_providers(stack, {"dashscope_api_key": "sk-local", **SIMULATED_WECHAT})
        seen = {name: host.seen(value) for name, value in stack.environment.items()}
        variables.write_text(json.dumps({"Parameters": seen}))
        yield Ground(stack, people, variables)


def _elsewhere(host: Host, model: Server, people: wechat.Server) -> dict[str, str]:
    return {
        "DASHSCOPE_HTTP_BASE_URL": host.seen(model.base_url),
        "WECHAT_BASE_URL": host.seen(people.base_url),
        "WECHAT_OPEN_URL": host.seen(people.base_url),
        "SIGNUP_CREDITS": "1000000",
        "UNCOVERED_CREDITS": "1000000",
    }


def main() -> int:
    """Run until Ctrl-C."""
    if not docker.available() or not TEMPLATE.exists():
        print(f"This needs Docker, {docker.IMAGE} and what `make build` builds.", file=sys.stderr)
        return 1
    VARIABLES.parent.mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="aideer-sam-") as folder, ground(Path(folder), VARIABLES):
        print(COMMANDS, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
