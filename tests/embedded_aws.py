"""The embedded AWS of a test run: ministack as a library of this process, with the data resources of template.yaml.

Clients of this process hand each request to it and wait: no socket, no HTTP, no second process. That saves more than half of a
call's work. Processes that a test starts reach the same data at `endpoint`. ministack runs in one thread with one event loop, as
it does in a process of its own. So racing requests meet the same order of events.

Nothing is started before `start()`. Names do not depend on it: the functions' environment is known before.
"""

import asyncio
import contextlib
import io
import logging
import os
import tempfile
import threading
from pathlib import Path
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

NAMES = {
    "AWS::DynamoDB::Table": "TableName",
    "AWS::SQS::Queue": "QueueName",
    "AWS::SecretsManager::Secret": "Name",
    "AWS::S3::Bucket": "BucketName",
}
"""The property that names a resource, by its type."""
START_SECONDS = 60


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
        self._lock = threading.Lock()
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
        with self._lock:
            if self._loop:
                return
            folder = Path(self._running.enter_context(tempfile.TemporaryDirectory(prefix="aideer-tests-")))
            self._loop = self._serve(folder)
        resources.create(self._template, self.endpoint)
        resources.write_providers(Stack(self.endpoint, self.environment, self.resources), keys)

    def _serve(self, folder: Path) -> asyncio.AbstractEventLoop:
        import uvicorn

        services = (*ministack_server.SERVICES, "cloudformation")
        port = self._socket.getsockname()[1]
        own = ministack_server.environment(port, folder, services, persist=False)
        silent = logging.NullHandler()
        logging.getLogger().addHandler(silent)  # otherwise ministack adds a handler that writes to the console
        with mock.patch.dict(os.environ, own):  # it is read at the import
            self._application = ministack_server.application(services)
            from ministack.services import cloudformation, dynamodb, s3, secretsmanager, sqs  # noqa: F401
        logging.getLogger().removeHandler(silent)
        for name in ("ministack", "s3", "sqs", "dynamodb"):
            logging.getLogger(name).setLevel(logging.WARNING)
        started = threading.Event()

        class Server(uvicorn.Server):
            async def startup(self, *arguments: Any, **named: Any) -> None:
                await super().startup(*arguments, **named)
                started.set()

        server = Server(
            uvicorn.Config(self._application, access_log=False, log_config=None, timeout_graceful_shutdown=1)
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
            thread.join(10)

        self._running.callback(stop)
        if not started.wait(START_SECONDS) or not server.started:
            raise RuntimeError("the embedded AWS did not start")
        return loop

    def _send(self, session: URLLib3Session, request: Any) -> AWSResponse:
        if not request.url.startswith(self.endpoint):  # another embedded AWS, or an address where nothing is
            return self._over_http(session, request)
        if self.refusal is not None:
            pytest.fail(self.refusal, pytrace=False)  # not an Exception, which the product might handle
        if self._loop is None:
            raise RuntimeError("The embedded AWS has not been started.")
        return asyncio.run_coroutine_threadsafe(self._answer(request), self._loop).result()

    async def _answer(self, request: Any) -> AWSResponse:
        scope, body = _scope(request)
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        head: dict[str, Any] = {}
        content = io.BytesIO()

        async def receive() -> Any:
            return messages.pop() if messages else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                head.update(message)
            elif request.method != "HEAD":
                content.write(message.get("body", b""))

        await self._application(scope, receive, send)
        headers = HTTPHeaders()
        for name, value in head["headers"]:
            headers[name.decode("latin-1")] = value.decode("latin-1")
        content.seek(0)
        raw = HTTPResponse(content, status=head["status"], preload_content=False, decode_content=False)
        return AWSResponse(request.url, head["status"], headers, raw)


def _scope(request: Any) -> tuple[dict[str, Any], bytes]:
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
