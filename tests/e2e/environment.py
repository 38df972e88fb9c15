"""An execution environment of a streaming function: Lambda's image, the built function with its layers, and the real web adapter.

Lambda starts the extensions of the layers, and the runtime beside them. The runtime's wrapper is the adapter's `bootstrap`, which
becomes the function's handler, such as `stream.sh`. The adapter's extension is what speaks to the Runtime API.
"""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from local.release import docker, web_adapter
from local.release.build import built
from tests.e2e.cloud import STREAM, Cloud, opt, session
from tests.e2e.runtime_api import RuntimeApi
from tests.waiting import until

INIT = """
for extension in /opt/extensions/*; do "$extension" & done
while [ -n "$HELD" ] && [ ! -e /tmp/released ]; do sleep 0.1; done
exec /lambda-entrypoint.sh "$1"
"""
"""Lambda's own init, for this function. With HELD, the runtime starts when it is released."""


class Environment:
    """A container, and the Runtime API that it speaks to."""

    def __init__(self, name: str, api: RuntimeApi) -> None:
        self.name, self.api = name, api

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop all processes in this block, as Lambda does between two invocations. First the environment must be idle."""
        self.api.wait_until_idle()
        docker.output("pause", self.name)
        try:
            yield
        finally:
            docker.output("unpause", self.name)

    def release(self) -> None:
        """Let a held runtime start."""
        docker.output("exec", self.name, "touch", "/tmp/released")

    def terminate(self) -> int:
        """Send SIGTERM to the runtime, as Lambda does in the end. Return its exit code."""
        docker.output("kill", "--signal=TERM", self.name)
        return int(docker.output("wait", self.name))

    @property
    def log(self) -> str:
        """What the function and the adapter have written."""
        command = ["docker", "logs", self.name]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout

    @property
    def is_running(self) -> bool:
        return docker.output("inspect", "--format={{.State.Running}}", self.name).strip() == "true"


@contextlib.contextmanager
def environment(
    cloud: Cloud, folder: Path, *, of: str = STREAM, held: bool = False, **variables: str
) -> Iterator[Environment]:
    """A new environment of a deployed function, with its role's credentials. `variables` replace the function's."""
    [function] = [function for function in built() if function.name == of]
    configuration = cloud.configuration(of)
    layers = opt(function, folder)
    shutil.copytree(web_adapter.layer(), layers, dirs_exist_ok=True)
    with RuntimeApi(cloud.host.bind) as api:
        lambdas = {
            "AWS_LAMBDA_RUNTIME_API": cloud.host.seen(api.address),
            "AWS_LAMBDA_FUNCTION_NAME": configuration["FunctionName"],
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(configuration["MemorySize"]),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "LAMBDA_TASK_ROOT": "/var/task",
            "HELD": "1" if held else "",
            "AWS_ENDPOINT_URL": cloud.host.seen(cloud.endpoint),
        }
        all_ = {**configuration["Environment"]["Variables"], **session(cloud, of), **lambdas, **variables}
        file = folder / f"{api.address.rpartition(':')[2]}.env"
        file.write_text("".join(f"{name}={value}\n" for name, value in all_.items()))
        name = f"aideer-adapter-{file.stem}"
        docker.output(
            *(
                "run",
                "--detach",
                f"--name={name}",
                f"--env-file={file}",
                "--add-host=host.docker.internal:host-gateway",
            ),
            *(f"--volume={function.folder}:/var/task:ro", f"--volume={layers}:/opt:ro"),
            *("--entrypoint=/bin/sh", docker.IMAGE, "-c", INIT, "init", configuration["Handler"]),
        )
        here = Environment(name, api)
        try:
            if not held:
                until(lambda: api.is_idle or not here.is_running, f"the start of {of}", pause_seconds=0.2)
                assert here.is_running, here.log
            yield here
        finally:
            (folder / f"{name}.log").write_text(here.log)
            docker.output("rm", "--force", name)
