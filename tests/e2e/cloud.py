"""The deployed stack, without an account: ministack that enforces IAM and runs functions in Lambda's own image.

`make deploy` puts what `make build` has built there (operator.py). The SAM CLI's gateway stands in front of Lambda's Invoke API.
The streaming function's container is started here, with its role's credentials: ministack cannot stream. It runs without the web
adapter here, and with it in environment.py.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from werkzeug.serving import make_server

from local.release import docker
from local.release.build import Built, built
from local.release.docker import Host
from local.stack.gateway import Gateway
from local.stack.invocation import InvocationError
from local.stack.processes import listener
from local.stack.resources import provider_secrets
from local.stack.settings import SIMULATED_WECHAT
from local.stack.state import REGION
from local.stack.template import ROOT, Function, Template
from tests.e2e.operator import CREDENTIALS, STACK
from tests.waiting import PATIENCE_SECONDS, until

STREAM = "TasksStreamFunction"
V1 = "V1ServeFunction"


@dataclass
class Cloud:
    """ministack with the stack deployed."""

    endpoint: str
    host: Host
    template: Template = field(default_factory=Template)

    def client(self, service: str) -> Any:
        """A client with all rights."""
        import botocore.session
        from botocore.config import Config

        return botocore.session.get_session().create_client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            config=Config(read_timeout=120, retries={"max_attempts": 0}, max_pool_connections=32),
        )

    @cached_property
    def lambda_(self) -> Any:
        return self.client("lambda")

    @cached_property
    def iam(self) -> Any:
        return self.client("iam")

    @cached_property
    def logs(self) -> Any:
        return self.client("logs")

    @cached_property
    def resources(self) -> dict[str, str]:
        """Logical id -> physical id."""
        answer = self.client("cloudformation").describe_stack_resources(StackName=STACK)
        return {item["LogicalResourceId"]: item["PhysicalResourceId"] for item in answer["StackResources"]}

    def configuration(self, function: str) -> dict[str, Any]:
        """How a function is deployed."""
        found: dict[str, Any] = self.lambda_.get_function_configuration(FunctionName=self.resources[function])
        return found

    def invoke(self, function: str, event: Any) -> Any:
        """Run a function. Raises InvocationError where it raised or timed out."""
        payload = event if isinstance(event, (str, bytes)) else json.dumps(event)
        answer = self.lambda_.invoke(FunctionName=self.resources[function], Payload=payload)
        body = answer["Payload"].read().decode()
        if "FunctionError" in answer:
            raise InvocationError(f"{function}: {body[:2000]}")
        return json.loads(body)

    def enter_keys(self) -> None:
        """What an operator enters after the first deployment."""
        keys = {"dashscope_api_key": "sk-e2e"} | SIMULATED_WECHAT
        for secret, values in provider_secrets(keys).items():
            self.client("secretsmanager").put_secret_value(
                SecretId=self.resources[secret], SecretString=json.dumps(values)
            )

    def complaints(self, function: str, since: float) -> list[str]:
        """What a function has logged as an error or a warning since then (seconds since the epoch)."""
        lines = self.logs.filter_log_events(
            logGroupName=self.resources["LogGroup"], startTime=int(since * 1000), filterPattern=""
        )["events"]
        name = self.resources[function]
        own = [line["message"] for line in lines if name in line["message"]]
        return [line for line in own if '"level":"ERROR"' in line or '"level":"WARNING"' in line]

    def role(self, function: str) -> str:
        """The name of a function's role."""
        return self.configuration(function)["Role"].rpartition("/")[2]

    def forget(self, function: str) -> None:
        """Let the function's next invocation start cold: what its process has kept (a secret) is gone."""
        self.lambda_.update_function_configuration(
            FunctionName=self.resources[function], Description=f"cold since {time.time()}"
        )


@contextlib.contextmanager
def ministack(folder: Path, host: Host) -> Iterator[str]:
    """ministack with IAM enforced and functions in containers, on a free port; its endpoint."""
    with listener(0) as sock:
        port = sock.getsockname()[1]
    endpoint = f"http://{host.bind}:{port}"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "GATEWAY_PORT": str(port),
        "BIND_HOST": host.bind,
        "AUTH": "true",
        "LAMBDA_EXECUTOR": "docker",
        "LAMBDA_STRICT": "1",
        "LAMBDA_WARM_TTL_SECONDS": "3600",
        "AWS_ENDPOINT_URL": host.seen(endpoint),
        "STATE_DIR": str(folder),
        "S3_DATA_DIR": str(folder / "s3"),
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "LOG_LEVEL": "WARNING",
    }
    with (folder / "ministack.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.aws"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    try:
        until(lambda: reached(f"{endpoint}/_ministack/health"), "ministack")
        yield endpoint
    finally:
        process.terminate()  # it removes its containers
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def gateway(template: Template, invoke: Callable[[Function, str], str]) -> Iterator[str]:
    """The SAM CLI's API Gateway on a free port; its URL."""
    with listener(0) as sock:
        port = sock.getsockname()[1]
    wsgi = Gateway(template, port, invoke).wsgi
    server = make_server("127.0.0.1", port, wsgi, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def api(cloud: Cloud, stream: str) -> Iterator[str]:
    """The deployed functions behind API Gateway, which tell clients this URL for streams; the API's URL."""
    variables = cloud.configuration("TasksCreateFunction")["Environment"]["Variables"]
    told = variables["STREAM_BASE_URL"].rstrip("/")  # the Lambda URL, behind which nothing runs here

    def invoke(function: Function, event: str) -> str:
        answer = cloud.lambda_.invoke(FunctionName=cloud.resources[function.name], Payload=event.encode())
        body: str = answer["Payload"].read().decode()
        if "FunctionError" in answer:
            raise InvocationError(body)
        return body.replace(told, stream)

    with gateway(Template(), invoke) as url:
        yield url


@contextlib.contextmanager
def streaming(cloud: Cloud, folder: Path) -> Iterator[str]:
    """The streaming function as the web adapter starts it, stream.sh, in Lambda's image and with its role; its URL."""
    [function] = [function for function in built() if function.name == STREAM]
    with listener(0) as sock:
        port = sock.getsockname()[1]
    environment = {
        **cloud.configuration(STREAM)["Environment"]["Variables"],
        **session(cloud, STREAM),
        "AWS_ENDPOINT_URL": cloud.endpoint,
        "AWS_LWA_PORT": str(port),
        "LAMBDA_TASK_ROOT": "/var/task",
        "PYTHONWARNINGS": "ignore",
    }
    environment.pop("AWS_LAMBDA_EXEC_WRAPPER")
    path = folder / "stream.env"
    path.write_text("".join(f"{name}={value}\n" for name, value in environment.items()))
    name = f"aideer-stream-{port}"
    docker.run(
        *("--detach", "--network=host", f"--name={name}", f"--env-file={path}", "--workdir=/var/task"),
        *(f"--volume={function.folder}:/var/task:ro", f"--volume={opt(function, folder)}:/opt:ro"),
        *("--entrypoint=/bin/sh", docker.IMAGE, "/var/task/tasks/stream.sh"),
    )
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: reached(f"{url}/ready"), "the streaming function")
        yield url
    finally:
        (folder / "stream.log").write_text(docker.output("logs", name))
        docker.output("rm", "--force", name)


def opt(function: Built, folder: Path) -> Path:
    """A function's layers, one over the other as Lambda lays them into /opt."""
    merged = folder / f"opt-{function.name}"

    def laid(source: str, target: str) -> None:
        Path(target).unlink(missing_ok=True)
        os.link(source, target)

    for layer in function.layers:
        shutil.copytree(layer, merged, copy_function=laid, dirs_exist_ok=True)
    return merged


def session(cloud: Cloud, function: str) -> dict[str, str]:
    """Credentials of a function's role, as Lambda gives them to its process."""
    arn = cloud.configuration(function)["Role"]
    given = cloud.client("sts").assume_role(RoleArn=arn, RoleSessionName="e2e")["Credentials"]
    return {
        "AWS_ACCESS_KEY_ID": given["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": given["SecretAccessKey"],
        "AWS_SESSION_TOKEN": given["SessionToken"],
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    }


def reached(url: str) -> bool:
    """Whether something answers there, in whatever way it does."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
