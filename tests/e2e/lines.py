"""Ways from containers to servers of this machine, on which connections die as they do while Lambda has frozen a process."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Literal, Self
from urllib.parse import urlsplit

from local.release.docker import Host
from tests.waiting import PATIENCE_SECONDS

Death = Literal["closed", "reset", "reset_when_used"]
"""The server closes the connection, the server or a gateway resets it, or it is reset by the next data of the client."""


class _Connection:
    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client, self.server = client, server
        self.is_dead = False

    def reset(self) -> None:
        linger = struct.pack("ii", 1, 0)  # without it, the end is an orderly one
        self.client.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.client.transport.abort()
        self.server.close()

    def close(self) -> None:
        self.client.close()
        self.server.close()


class Line:
    """A way to the server at `url`. Its own URL, for containers, is `seen`."""

    def __init__(self, host: Host, url: str) -> None:
        self.carried = 0
        """The bytes that clients have sent."""
        self._target = urlsplit(url)
        self._listener = socket.create_server((host.bind, 0))
        port = self._listener.getsockname()[1]
        self.seen = self._target._replace(netloc=f"{host.name}:{port}").geturl()
        self._open: list[_Connection] = []
        self._refuses = False
        self._loop: asyncio.AbstractEventLoop
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._serving = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._serving.wait(PATIENCE_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE_SECONDS)

    def cut(self, how: Death) -> int:
        """Let all open connections die. Return their number."""
        return asyncio.run_coroutine_threadsafe(self._cut(how), self._loop).result(PATIENCE_SECONDS)

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """Reset all connections, also new ones, in this block."""
        self._refuses = True
        self.cut("reset")
        try:
            yield
        finally:
            self._refuses = False

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._carry, sock=self._listener)
        self._serving.set()
        await self._stop.wait()
        server.close()
        await self._cut("closed")

    async def _cut(self, how: Death) -> int:
        dying, self._open = self._open, []
        for connection in dying:
            if how == "reset_when_used":
                connection.is_dead = True
            elif how == "reset":
                connection.reset()
            else:
                connection.close()
        return len(dying)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(self._target.hostname, self._target.port)
        connection = _Connection(writer, to_server)
        if self._refuses:
            connection.reset()
            return
        self._open.append(connection)
        with contextlib.suppress(OSError):
            await asyncio.gather(self._send(reader, connection), self._answer(from_server, connection))
        connection.close()
        if connection in self._open:
            self._open.remove(connection)

    async def _send(self, reader: asyncio.StreamReader, connection: _Connection) -> None:
        while piece := await reader.read(65_536):
            if connection.is_dead:
                connection.reset()
                break
            self.carried += len(piece)
            connection.server.write(piece)
        connection.server.close()

    async def _answer(self, reader: asyncio.StreamReader, connection: _Connection) -> None:
        while piece := await reader.read(65_536):
            connection.client.write(piece)
            await connection.client.drain()
        connection.client.close()
