"""The server on PORT: the stream's ASGI app, the one of /v1, and the API Gateway for all other requests.

The gateway is also served under /gateway. There, GET /api/v1/tasks/{id}/stream calls the function that waits and returns the text
so far. Clients that cannot stream use it.
"""

import asyncio
import concurrent.futures
import gc
import importlib
import json
import os
import re
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from a2wsgi import WSGIMiddleware

from local.stack.edge import Edge
from local.stack.gateway import Gateway
from local.stack.invocation import Context, InvocationError, TimedOutError, run
from local.stack.middleware import Guard, RequestLog, loopback_hosts
from local.stack.processes import ROOT, Processes, announce_ready
from local.stack.reload import Reloader
from local.stack.settings import Settings, hide_secrets
from local.stack.state import Stack
from local.stack.template import Function, Template
from local.stack.uploads_door import UploadsDoor
from local.stack.workers import Pool

STREAM_MODULE = "tasks.stream"
URL_APPS = {STREAM_MODULE: "TasksStreamFunction", "v1.serve": "V1ServeFunction"}
"""The modules of ASGI apps behind Lambda URLs, and their functions."""
V1_PREFIX = "/v1/"
STREAM_PATH = re.compile(r"/api/v1/tasks/(?:[^/]+/)?stream|/api/v1/ui/.*")
GATEWAY_PREFIX = "/gateway"
PRELOADED = ("aideer.tasks.executor", "aideer.tasks.asking", "aideer.ai_sdk.door", "aideer.completions.door")
"""Modules that the stream's app imports at its first request. Loading them early keeps that time out of the first token."""
POLL_THREADS = 8
THREADS = 64
SWITCH_SECONDS = 0.001
"""Seconds that a gateway's thread may block the event loop, which relays answers."""
READY_SECONDS = 120.0
STOP_SECONDS = 3

App = Callable[[Any, Any, Any], Awaitable[None]]


class PollRunner:
    """Runs the function that waits for a stream's next part. It uses its own threads, so it never occupies the workers."""

    def __init__(self) -> None:
        self._threads = concurrent.futures.ThreadPoolExecutor(POLL_THREADS, "poll", initializer=_own_event_loop)

    def invoke(self, context: Context, event: str) -> str:
        """Run the handler. A thread cannot be ended, so a handler that takes too long keeps its thread."""
        future = self._threads.submit(run, json.loads(event), context)
        try:
            return future.result(context.timeout)
        except concurrent.futures.TimeoutError:
            future.cancel()  # if it has not begun
            raise TimedOutError from None


def _own_event_loop() -> None:
    asyncio.set_event_loop(asyncio.new_event_loop())  # Mangum uses the thread's event loop


def worker_modules(template: Template) -> list[str]:
    """Return the modules whose handlers run in the workers: those of requests, and those that are invoked directly."""
    return [
        function.module
        for function in template.functions.values()
        if function.runs_here
        and function.module != STREAM_MODULE
        and all(event.type == "HttpApi" for event in function.events)
    ]


def make_admin(template: Template, pool: Pool, settings: Settings) -> None:
    """Make the administrator that the console names."""
    function = next(item for item in template.functions.values() if item.module == "operations.make_admin")
    credentials = {"username": settings.admin_username, "password": settings.admin_password}
    try:
        pool.invoke(function.context(), json.dumps(credentials))
    except InvocationError as error:  # the worker has logged it
        sys.exit(f"ERROR ADMIN_USERNAME {settings.admin_username} cannot be made an administrator: {error}")


def url_app(template: Template, module: str) -> App:
    """Return the app of a Lambda URL with the CORS of its deployed URL."""
    from starlette.middleware.cors import CORSMiddleware

    app: App = importlib.import_module(module).app
    target = {"Ref": URL_APPS[module]}
    url: dict[str, Any] = next((url for url in template.urls if url["TargetFunctionArn"] == target), {})
    cors = template.resolve(url.get("Cors", {}), {})
    if not cors:
        return app
    return CORSMiddleware(
        app,
        allow_origins=cors.get("AllowOrigins", ()),
        allow_methods=cors.get("AllowMethods", ()),
        allow_headers=cors.get("AllowHeaders", ()),
        expose_headers=cors.get("ExposeHeaders", ()),
        allow_credentials=cors.get("AllowCredentials", False),
        max_age=cors.get("MaxAge", 0),
    )


def dispatcher(stream: App, v1: App, gateway: App) -> App:
    """Return the app that gives each request to the stream, to /v1 or to the gateway."""

    async def dispatch(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await stream(scope, receive, send)
        elif scope["path"].startswith(f"{GATEWAY_PREFIX}/"):
            await gateway({**scope, "path": scope["path"].removeprefix(GATEWAY_PREFIX)}, receive, send)
        elif STREAM_PATH.fullmatch(scope["path"]):
            await stream(scope, receive, send)
        elif scope["path"].startswith(V1_PREFIX):
            await v1(scope, receive, send)
        else:
            await gateway(scope, receive, send)

    return dispatch


def guarded(app: App, settings: Settings) -> App:
    """Return the app, reachable from this machine and from the listed hosts and origins."""
    own = loopback_hosts(settings.port)
    origins = {*(f"http://{host}" for host in own), *settings.allowed_origins}
    return RequestLog(Guard(app, own | set(settings.allowed_hosts), origins), say)


def say(line: str) -> None:
    """Write a line that the console shows."""
    print(line, flush=True)


async def serve(app: App, sock: socket.socket) -> None:
    """Serve until SIGTERM. Then give running answers STOP_SECONDS to end, with or without a viewer."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(THREADS))
    config = uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=STOP_SECONDS,
        server_header=False,
        proxy_headers=False,  # a caller can put anything into X-Forwarded-For, and API Gateway ignores it too
    )
    server = uvicorn.Server(config)
    sock.listen(config.backlog)
    announce_ready()
    signal.signal(signal.SIGTERM, lambda *_: None)  # after stopping, uvicorn sends itself the caught signal again
    await server.serve(sockets=[sock])
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others, timeout=STOP_SECONDS)


def main() -> None:
    """Serve on the socket whose descriptor is the argument. Begin when a request to any endpoint would succeed."""
    settings, template = Settings.read(), Template()
    hide_secrets()
    sock = socket.socket(fileno=int(sys.argv[1]))
    modules = worker_modules(template)
    pool = Pool(settings.workers, modules, lambda: Stack.wait(settings.state_dir).environment)
    pool.start()
    poll_runner = PollRunner()

    def invoke(function: Function, event: str) -> str:
        runner = poll_runner if function.module == STREAM_MODULE else pool
        return runner.invoke(function.context(), event)

    gateway = Edge(WSGIMiddleware(Gateway(template, settings.port, invoke).wsgi, workers=THREADS))
    stack = Stack.wait(settings.state_dir)
    os.environ.update(stack.environment)
    sys.path.insert(0, str(ROOT / "functions"))
    stream, v1 = (url_app(template, module) for module in URL_APPS)
    api = dispatcher(stream, v1, gateway)
    app = guarded(UploadsDoor(api, stack.endpoint, stack.resources["UploadsBucket"]["Ref"]), settings)
    for module in PRELOADED:
        importlib.import_module(module)
    if not pool.wait_until_ready(READY_SECONDS):
        sys.exit("ERROR the workers did not start")
    make_admin(template, pool, settings)
    processes = Processes(settings.state_dir)
    simulated = {processes.dashscope: settings.simulates_dashscope, processes.wechat: settings.simulates_wechat}
    for process in [processes.background, *(process for process, runs in simulated.items() if runs)]:
        if not process.wait_until_ready(READY_SECONDS):
            sys.exit(f"ERROR {process.name} did not become ready")
    Reloader(pool.reload, modules, say).start()
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()  # collecting the loaded objects would pause every stream
    asyncio.run(serve(app, sock))
    sys.stdout.flush()
    os._exit(0)  # do not wait for threads: a Lambda environment that ends does not finish their work either


if __name__ == "__main__":
    main()
