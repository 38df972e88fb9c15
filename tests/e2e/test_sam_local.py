"""`sam local`: the functions in Lambda's image, as the SAM CLI runs them, on the embedded AWS."""

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.config import Config

from local.release import sam
from local.release.docker import Host
from local.release.sam import Ground
from local.stack.processes import listener
from local.stack.resources import client, queue_url
from local.stack.state import REGION
from local.stack.template import ROOT, Function, Template
from tests.e2e.calls import ADMIN, Place, Someone, call, event, routed
from tests.e2e.cloud import CREDENTIALS, gateway, reached
from tests.waiting import until

TEMPLATE = Template()
ROUTED = routed(TEMPLATE)
INVOKED = {
    "HealthGetFunction": 200,
    "PricesListFunction": 200,
    "DocsOpenapiFunction": 200,
    "UsersMeFunction": 401,  # its event's token is nobody's
    "TasksSweepFunction": None,
}
"""Run by `sam local invoke` with the events as they are, and what they answer."""
WORKERS = [f for f in TEMPLATE.functions.values() if f not in ROUTED and f.runs_here and f.name not in INVOKED]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SAM CLI's


@pytest.fixture(scope="module")
def ground(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("ground")
    with sam.ground(folder, folder / "variables.json") as found:
        yield found


@contextlib.contextmanager
def sam_local(ground: Ground, command: str, folder: Path) -> Iterator[str]:
    """`sam local start-…` on a free port; its URL. Ctrl-C makes it remove its containers."""
    with listener(0) as sock:
        port = sock.getsockname()[1]
    words = ["sam", "local", command, "--port", str(port), "--warm-containers", "LAZY", "--no-watch", *ground.options]
    with (folder / f"{command}.log").open("wb") as log:
        process = subprocess.Popen(words, cwd=ROOT, env=environment(), stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: reached(url), command)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(600)  # it stops a hundred containers one by one
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def environment() -> dict[str, str]:
    return {**os.environ, **CREDENTIALS, "SAM_CLI_TELEMETRY": "0"}


@pytest.fixture(scope="module")
def invoke(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """`sam local start-lambda`: runs a function in a container that stays."""
    with sam_local(ground, "start-lambda", tmp_path_factory.mktemp("start-lambda")) as url:
        lambda_ = botocore.session.get_session().create_client(
            "lambda",
            endpoint_url=url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(read_timeout=120, retries={"max_attempts": 0}, max_pool_connections=16),
        )

        def run(function: Function, payload: str) -> str:
            answer = lambda_.invoke(FunctionName=function.name, Payload=payload.encode())
            body: str = answer["Payload"].read().decode()
            assert "errorType" not in body or "statusCode" in body, f"{function.name}: {body}"
            return body

        run(TEMPLATE.functions["OperationsMakeAdminFunction"], json.dumps(ADMIN))
        run(TEMPLATE.functions["ReconciliationRunFunction"], json.dumps({"begin": True}))
        yield run


@pytest.fixture(scope="module")
def delivered(ground: Ground, invoke: Any) -> Iterator[None]:
    """What Lambda's poller does: each message of the tasks queue goes to its function."""
    queue = queue_url(ground.stack.endpoint, ground.stack.resources["TasksQueue"]["QueueName"])
    sqs, stopped = client("sqs", ground.stack.endpoint), threading.Event()

    def poll() -> None:
        while not stopped.is_set():
            for message in sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages", []):
                record = {"messageId": message["MessageId"], "body": message["Body"]}
                invoke(TEMPLATE.functions["TasksOnQueuedFunction"], json.dumps({"Records": [record]}))
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])

    thread = threading.Thread(target=poll)
    thread.start()
    yield
    stopped.set()
    thread.join()


@pytest.fixture(scope="module")
def place(ground: Ground, invoke: Any, delivered: None) -> Iterator[Place]:
    """The endpoints, each in its container, behind the gateway of `make run`."""
    with gateway(TEMPLATE, invoke) as url:
        yield Place(url, ground.people)


@pytest.mark.parametrize("name", INVOKED)
def test_invoke_runs_a_function_with_its_event(ground: Ground, name: str) -> None:
    module = TEMPLATE.functions[name].module.replace(".", "/")
    words = ["sam", "local", "invoke", name, "--event", str(ROOT / "events" / f"{module}.json"), *ground.options]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    assert (answer and answer["statusCode"]) == INVOKED[name]


@pytest.mark.parametrize("function", ROUTED, ids=lambda function: function.module)
def test_every_endpoint_answers_in_a_warm_container(place: Place, function: Function) -> None:
    answer = call(function, Someone(place))
    assert answer.status_code < 400, answer.text


@pytest.mark.parametrize("function", WORKERS, ids=lambda function: function.module)
def test_what_is_no_endpoint_takes_its_event(invoke: Any, function: Function) -> None:
    answer = json.loads(invoke(function, json.dumps(event(function))))
    assert answer is None or not answer.get("batchItemFailures")


def test_start_api_makes_the_journey(ground: Ground, invoke: Any, delivered: None, tmp_path: Path) -> None:
    with sam_local(ground, "start-api", tmp_path) as url:
        me = Someone(Place(url, ground.people))
        before = me.call("GET", "/users/me/credits")["credits_left"]
        task = me.call("GET", f"/tasks/{me.task}")
        assert task["status"] == "finished"
        stored = me.call("GET", f"/chats/{me.chat}")["messages"][-1]
        assert stored["content"] == task["content"]
        ledger = me.call("GET", "/users/me/credits")
        assert ledger["credits_left"] == before - task["credits"]
        assert ledger["credits_left"] == sum(record["amount"] for record in ledger["credit_records"])
        assert ledger["credits_held"] == 0
