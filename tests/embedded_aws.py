"""The embedded AWS of a test run: ministack as a library of this process, with the data resources of template.yaml.

Clients of this process hand each request to it: no socket, no HTTP, no second process. That saves more than half of a call's work.
Processes that a test starts reach the same data at `endpoint`.

A request of DynamoDB is answered in its caller's thread, under a lock: ministack awaits nothing for it. All others are answered by
ministack's event loop, in a thread of its own. So ministack answers racing requests one after the other, as in its own process.

Nothing is started before `start()`. Names do not depend on it: the functions' environment is known before.
"""

import asyncio
import contextlib
import contextvars
import io
import logging
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock
from urllib.parse import unquote, urlsplit

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.httpsession import URLLib3Session
from urllib3.response import HTTPResponse

from local.stack import ministack_server, resources
from local.stack.processes import listener
from local.stack.state import ACCOUNT, REGION, Stack
from local.stack.template import Template
from tests.waiting import PATIENCE_SECONDS

NAMES = {
    "AWS::DynamoDB::Table": "TableName",
    "AWS::SQS::Queue": "QueueName",
    "AWS::SecretsManager::Secret": "Name",
    "AWS::S3::Bucket": "BucketName",
}
"""The property that names a resource, by its type."""
START_SECONDS = 60
Scope = dict[str, Any]
"""Of a request: ASGI's."""


@dataclass
class Answer:
    """What ministack answers."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    content: bytes = b""


class NamedTemplate(Template):
    """template.yaml, whose data resources have names that are known before they are made."""

    def data(self) -> dict[str, Any]:
        """The data resources, each with its name."""
        data = super().data()
        for logical_id, resource in data["Resources"].items():
            resource.setdefault("Properties", {})[NAMES[resource["Type"]]] = _name(logical_id, resource["Type"])
        return data


def _name(logical_id: str, kind: str) -> str:
    """A name as CloudFormation would make it."""
    name = f"{resources.NAME}-{logical_id}-tests"
    return name.lower() if kind == "AWS::S3::Bucket" else name


def _attributes(logical_id: str, kind: str) -> dict[str, str]:
    """What references to the resource give. A secret's name serves as its ARN."""
    name = _name(logical_id, kind)
    if kind == "AWS::SQS::Queue":
        return {"Ref": name, "QueueName": name, "Arn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"}
    if kind == "AWS::DynamoDB::Table":
        return {"Ref": name, "Arn": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{name}"}
    return {"Ref": name, "Arn": name if kind == "AWS::SecretsManager::Secret" else f"arn:aws:s3:::{name}"}


class EmbeddedAws:
    """One embedded AWS. `with EmbeddedAws() as aws` lets this process's botocore clients reach it, once it is started."""

    def __init__(self) -> None:
        self._template = NamedTemplate()
        self._running = contextlib.ExitStack()
        self._socket = self._running.enter_context(listener(0))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._application: Any = None
        self._starting = threading.Lock()
        self._dynamodb = threading.Lock()
        self._over_http = URLLib3Session.send
        self.endpoint = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.refusal: str | None = None
        """If it is set, a call of AWS fails the test with this text."""
        self.resources = {
            name: _attributes(name, resource["Type"]) for name, resource in self._template.data()["Resources"].items()
        }
        self.environment = resources.environment(self._template, self.endpoint, self.resources, {})

    def __enter__(self) -> "EmbeddedAws":
        def send(session: URLLib3Session, request: Any) -> AWSResponse:
            return self._send(session, request)

        self._running.enter_context(mock.patch.object(URLLib3Session, "send", send))
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def start(self, **keys: str) -> None:
        """Start it and make the data resources, unless that has been done. `keys` are the providers'."""
        with self._starting:
            if self._loop:
                return
            folder = Path(self._running.enter_context(tempfile.TemporaryDirectory(prefix="aideer-tests-")))
            self._loop = self._serve(folder)
        resources.create(self._template, self.endpoint)
        resources.write_providers(Stack(self.endpoint, self.environment, self.resources), keys)

    def _serve(self, folder: Path) -> asyncio.AbstractEventLoop:
        services = (*ministack_server.SERVICES, "cloudformation")
        port = self._socket.getsockname()[1]
        own = ministack_server.environment(port, folder, services, persist=False)
        silent = logging.NullHandler()
        logging.getLogger().addHandler(silent)  # otherwise ministack adds a handler that writes to the console
        # Every few minutes and at the end, it looks for Docker. An engine that it cannot reach leaves an open socket behind.
        self._running.enter_context(mock.patch.dict(os.environ, {"DOCKER_HOST": own["DOCKER_HOST"]}))
        with mock.patch.dict(os.environ, own):  # ministack reads the rest at the import and at the start
            self._application = ministack_server.application(services)
            from ministack.services import cloudformation, dynamodb, s3, secretsmanager, sqs  # noqa: F401

            logging.getLogger().removeHandler(silent)
            _keep_time()
            for name in ("ministack", "s3", "sqs", "dynamodb"):
                logging.getLogger(name).setLevel(logging.WARNING)
            return self._run()

    def _run(self) -> asyncio.AbstractEventLoop:
        """Serve in a thread of its own, and return its event loop."""
        import uvicorn

        started = threading.Event()

        class Server(uvicorn.Server):
            async def startup(self, *arguments: Any, **named: Any) -> None:
                await super().startup(*arguments, **named)
                started.set()

        server = Server(
            uvicorn.Config(
                self._answer_http, interface="asgi3", access_log=False, log_config=None, timeout_graceful_shutdown=1
            )
        )
        loop = asyncio.new_event_loop()

        def run() -> None:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(server.serve(sockets=[self._socket]))

        thread = threading.Thread(target=run, name="embedded-aws", daemon=True)
        self._socket.listen(128)
        thread.start()

        def stop() -> None:
            server.should_exit = True
            thread.join(PATIENCE_SECONDS)

        self._running.callback(stop)
        if not started.wait(START_SECONDS) or not server.started:
            raise RuntimeError("the embedded AWS did not start")
        return loop

    def _send(self, session: URLLib3Session, request: Any) -> AWSResponse:
        if not request.url.startswith(f"{self.endpoint}/"):  # another embedded AWS, or an address where nothing is
            return self._over_http(session, request)
        if self.refusal is not None:
            pytest.fail(self.refusal, pytrace=False)  # not an Exception, which the product might handle
        if self._loop is None:
            raise RuntimeError("The embedded AWS has not been started.")
        scope, body = _scope(request)
        if _is_dynamodb(scope):
            answer = self._answer_at_once(scope, body)
        else:
            answer = asyncio.run_coroutine_threadsafe(self._answer(scope, body), self._loop).result()
        headers = HTTPHeaders()
        for name, value in answer.headers:
            headers[name.decode("latin-1")] = value.decode("latin-1")
        content = b"" if request.method == "HEAD" else answer.content
        raw = HTTPResponse(io.BytesIO(content), status=answer.status, preload_content=False, decode_content=False)
        return AWSResponse(request.url, answer.status, headers, raw)

    async def _answer(self, scope: Scope, body: bytes) -> Answer:
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        answer = Answer()

        async def receive() -> Any:
            return messages.pop() if messages else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answer.status, answer.headers = message["status"], list(message["headers"])
            else:
                answer.content += message.get("body", b"")

        await self._application(scope, receive, send)
        return answer

    def _answer_at_once(self, scope: Scope, body: bytes) -> Answer:
        """Run ministack's coroutine to its end, without an event loop."""
        coroutine = self._answer(scope, body)
        with self._dynamodb:
            try:
                contextvars.copy_context().run(coroutine.send, None)
            except StopIteration as end:
                answer: Answer = end.value
                return answer
        raise RuntimeError("ministack awaits something in a call of DynamoDB: its event loop must answer that.")

    async def _answer_http(self, scope: Scope, receive: Any, send: Any) -> None:
        """The same for other processes."""
        if scope["type"] != "http" or not _is_dynamodb(scope):
            await self._application(scope, receive, send)
            return
        body, message = b"", {"more_body": True}
        while message.get("more_body"):
            message = await receive()
            body += message.get("body", b"")
        answer = self._answer_at_once(scope, body)
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.content})


def _keep_time() -> None:
    """Give ministack a clock of its own. Tests replace functions of the module `time`, and its threads would spin."""
    own = SimpleNamespace(**vars(time))
    for name, module in list(sys.modules.items()):
        if name.startswith("ministack.") and getattr(module, "time", None) is time:
            vars(module)["time"] = own


def empty_tables() -> None:
    """Remove every item of every table. To scan and delete them takes as long as the other tests have made many."""
    from ministack.services import dynamodb

    for table in dynamodb._tables.all_values():
        table["items"].clear()
        table["ItemCount"] = table["TableSizeBytes"] = 0


def _is_dynamodb(scope: Scope) -> bool:
    return any(name == b"x-amz-target" and value.startswith(b"DynamoDB_") for name, value in scope["headers"])


def _scope(request: Any) -> tuple[Scope, bytes]:
    """The ASGI scope and the body of a request of botocore."""
    url = urlsplit(request.url)
    body = request.body.read() if hasattr(request.body, "read") else request.body or b""
    headers = [(b"host", url.netloc.encode())]
    for name, value in request.headers.items():
        headers.append((name.lower().encode(), value if isinstance(value, bytes) else str(value).encode()))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": unquote(url.path) or "/",
        "raw_path": url.path.encode() or b"/",
        "query_string": url.query.encode(),
        "headers": headers,
        "client": ("127.0.0.1", 0),
        "server": (url.hostname, url.port),
    }
    return scope, body if isinstance(body, bytes) else body.encode()
