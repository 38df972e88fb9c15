"""The embedded AWS: ministack, served on an inherited socket, with its state saved while it runs.

By itself, ministack saves its state only at a clean stop. This module also saves it two seconds after the last write, so that a
kill loses only the latest writes.

Modes: `serve` keeps the state and offers the services that functions use. `migrate` also offers CloudFormation. `forget` is like
`migrate`, but keeps no state. In the last two modes, the process ends with the process that started it.
"""

import asyncio
import contextlib
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop

from local.stack.middleware import Guard, loopback_hosts
from local.stack.processes import READY

SERVICES = ("dynamodb", "sqs", "secretsmanager", "s3")
QUIET_SECONDS = 2.0
READS = ("Get", "Query", "Scan", "Describe", "List", "BatchGet", "ReceiveMessage", "TransactGet")


def environment(port: int, state_dir: Path, services: tuple[str, ...], *, persist: bool) -> dict[str, str]:
    """Return ministack's configuration as environment variables."""
    return {
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "PERSIST_STATE": "1" if persist else "0",
        "STATE_DIR": str(state_dir),
        "S3_PERSIST": "1" if persist else "0",
        "S3_DATA_DIR": str(state_dir / "s3"),
        "SERVICES": ",".join(services),
        "LOG_LEVEL": "WARNING",
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "DOCKER_HOST": "unix:///nonexistent",  # otherwise it looks for its own containers to remove
    }


class SavedApplication:
    """ministack's ASGI application, which notes the time of writes and saves the state after them."""

    def __init__(self, application: Any, on_ready: Callable[[], object]) -> None:
        self._application = application
        self._on_ready = on_ready
        self._written_at = 0.0
        self._saved_at = time.monotonic()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, self._announcing(send))
            return
        action = dict(scope["headers"]).get(b"x-amz-target", b"").rpartition(b".")[2].decode()
        if action == "ReceiveMessage":
            await _while_heard(self._application, scope, receive, send)
        else:
            await self._application(scope, receive, send)
        if scope["type"] == "http" and not action.startswith(READS):
            self._written_at = time.monotonic()

    def _announcing(self, send: Any) -> Any:
        async def announce(message: Any) -> None:
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                self._on_ready()

        return announce

    async def save_when_quiet(self) -> None:
        """Save the state again and again, in the event loop, so that no write can happen at the same time.

        Saving blocks the event loop for 45 ms a megabyte. So the required quiet time grows with the amount of data.
        """
        from ministack import app
        from ministack.core import persistence

        quiet = QUIET_SECONDS
        while True:
            await asyncio.sleep(QUIET_SECONDS / 4)
            began = time.monotonic()
            if self._saved_at < self._written_at < began - quiet:
                persistence.save_all(app._build_persistence_save_dict())
                self._saved_at = began
                quiet = max(QUIET_SECONDS, 20 * (time.monotonic() - began))


async def _while_heard(application: Any, scope: Any, receive: Any, send: Any) -> None:
    """Serve a request while its client is connected. A client that died while polling must not receive a message."""
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())

    async def replay() -> Any:
        return messages.pop(0) if messages else await asyncio.Event().wait()

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    serving, leaving = asyncio.create_task(application(scope, replay, send)), asyncio.create_task(gone())
    await asyncio.wait([serving, leaving], return_when=asyncio.FIRST_COMPLETED)
    for task in (serving, leaving):
        task.cancel()
    await asyncio.gather(serving, leaving, return_exceptions=True)


def application(services: tuple[str, ...], on_ready: Callable[[], object] = bool) -> SavedApplication:
    """Return ministack's ASGI application with these services. Its configuration is in the environment by now.

    `on_ready` is called when it can answer requests.
    """
    from ministack import app
    from ministack.services import dynamodb, sqs

    # DynamoDB measures items in UTF-8. ministack measures escaped JSON, in which a character may be three times as long.
    dynamodb._DDB_TXN_MAX_BYTES *= 3
    sqs._externalize_url = lambda url: _reached_by(url, sqs._request_host.get())
    app._state_map = {name: app._state_map[name] for name in services}  # the services to load at the start and to save
    return SavedApplication(app.app, on_ready)


async def serve(sock: socket.socket, services: tuple[str, ...], *, persist: bool) -> None:
    """Serve until SIGTERM, then let ministack save its state."""
    import uvicorn  # ministack's own hypercorn takes half as long again for a call

    served = application(services, on_ready=lambda: print(READY, flush=True))
    saving = asyncio.create_task(served.save_when_quiet()) if persist else None
    config = uvicorn.Config(
        Guard(served, loopback_hosts(sock.getsockname()[1])) if services == SERVICES else served,
        access_log=False,
        log_level="warning",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )
    for number in (signal.SIGTERM, signal.SIGINT):  # after stopping, uvicorn sends itself the caught signal again
        signal.signal(number, lambda *_: None)
    sock.listen(config.backlog)
    await uvicorn.Server(config).serve(sockets=[sock])
    if saving:
        saving.cancel()


def _reached_by(url: str, host: str) -> str:
    """Return a queue's URL under the caller's Host. The stored URL has the port of the process that made the queue."""
    return urlsplit(url)._replace(netloc=host).geturl() if host else url


def end_with_parent() -> None:
    """End this process when its parent ends. Its standard input, a pipe from the parent, then closes."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Serve on the socket whose descriptor is the first argument. The next arguments are the state directory and the mode."""
    descriptor, state_dir, mode = sys.argv[1:]
    persist = mode != "forget"
    services = SERVICES if mode == "serve" else (*SERVICES, "cloudformation")
    sock = socket.socket(fileno=int(descriptor))
    os.environ.update(environment(sock.getsockname()[1], Path(state_dir), services, persist=persist))
    if mode != "serve":
        end_with_parent()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):  # macOS has a limit below the hard one
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    uvloop.run(serve(sock, services, persist=persist))


if __name__ == "__main__":
    main()
