"""`make sam`: an embedded AWS for `sam local`, because containers cannot reach the loopback address of `make run`.

It runs until Ctrl-C, with a simulated DashScope and WeChat. It prints the SAM CLI's commands that run the functions of `make
build` in Lambda's own image. All its data is deleted when it ends.
"""

import contextlib
import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from local.release import docker
from local.release.build import BUILD
from local.release.docker import Host
from local.simulators import wechat
from local.simulators.dashscope import Server
from local.stack import resources
from local.stack.settings import SIMULATED_WECHAT
from local.stack.state import REGION, Stack

TEMPLATE = BUILD / "template.yaml"
VARIABLES = Path(".local/sam.json")
COMMANDS = f"""In another terminal:
    .venv/bin/sam local start-api --env-vars {VARIABLES}
    .venv/bin/sam local invoke HealthGetFunction --event events/health/get.json --env-vars {VARIABLES}"""


@dataclass(frozen=True)
class Ground:
    """The services that functions in containers use."""

    stack: Stack
    people: wechat.Server
    variables: Path
    """The file that `sam local` takes with --env-vars."""

    @property
    def options(self) -> list[str]:
        """The options that every command of `sam local` needs."""
        return ["--template", str(TEMPLATE), "--env-vars", str(self.variables), "--region", REGION, "--skip-pull-image"]


@contextlib.contextmanager
def ground(folder: Path, variables: Path) -> Iterator[Ground]:
    """Run the embedded AWS and the simulators, with data in `folder`. Write the functions' environment into `variables`."""
    host = Host.find()
    with (
        Server(tokens=12, delay_ms=2, host=host.bind) as model,
        wechat.Server(host=host.bind) as people,
        resources.run_stack(folder, host=host.bind, overrides=_elsewhere(host, model, people)) as stack,
    ):
        resources.write_providers(stack, {"dashscope_api_key": "sk-local", **SIMULATED_WECHAT})
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
        "OPEN_TASKS": "1000",
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
