"""A simulated provider: an HTTP server on loopback. A test or a tool runs it in a thread, or it runs as its own process."""

import asyncio
import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Self

from aiohttp import web


class Simulation(ABC):
    """One server. `with Server() as server: server.base_url` serves in a thread until the block ends."""

    NAME: ClassVar[str]
    PATH: ClassVar[str] = ""
    """The path at the end of the base URL."""

    def __init__(self, port: int, host: str) -> None:
        self.base_url = ""
        self._port, self._host = port, host
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._thread: threading.Thread | None = None

    @abstractmethod
    def application(self) -> web.Application:
        """Return the application to serve."""

    def __enter__(self) -> Self:
        started = threading.Event()

        def serve() -> None:
            try:
                asyncio.run(self.run(on_ready=lambda _: started.set()))
            finally:
                started.set()

        self._thread = threading.Thread(target=serve, name=f"simulated-{self.NAME}", daemon=True)
        self._thread.start()
        if not started.wait(10) or not self.base_url:
            raise RuntimeError(f"the simulated {self.NAME} did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving. Open connections are cut."""
        if self._loop and self._thread:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)
            self._thread = None

    async def run(self, on_ready: Callable[[str], object]) -> None:
        """Serve on this event loop until it is cancelled or closed. Call `on_ready` with the base URL."""
        self._loop = asyncio.get_running_loop()
        # If its client leaves, a waiting handler learns it only by its cancellation.
        runner = web.AppRunner(self.application(), handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
            self.base_url = f"http://{self._host}:{runner.addresses[0][1]}{self.PATH}"
            on_ready(self.base_url)
            await self._stop.wait()
        finally:
            await runner.cleanup()

    def serve(self) -> None:
        """Run as this process's only work until Ctrl-C. Print READY when the server is ready."""
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(self.run(on_ready=lambda url: print("READY", url, flush=True)))
