"""Ways to a server that are not as good as the loopback."""

import contextlib
import socket
import threading
from urllib.parse import urlsplit


class BreakingLine:
    """A way to a server that breaks after so many bytes of each answer, `breaks` times."""

    def __init__(self, url: str, after: int, breaks: int) -> None:
        target = urlsplit(url)
        self._target = (target.hostname, target.port)
        self._after, self._left = after, breaks
        self.broken = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> "BreakingLine":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(self._target) as server:
            carried = [0]  # of the answer to the latest request: connections are used again
            threading.Thread(target=self._send, args=(client, server, carried), daemon=True).start()
            while piece := server.recv(65_536):
                if self._left and carried[0] + len(piece) > self._after:
                    client.sendall(piece[: self._after - carried[0]])
                    self._left, self.broken = self._left - 1, self.broken + 1
                    break
                client.sendall(piece)
                carried[0] += len(piece)
            client.shutdown(socket.SHUT_RDWR)  # closing alone would wait for the thread that reads from it

    @staticmethod
    def _send(client: socket.socket, server: socket.socket, carried: list[int]) -> None:
        with contextlib.suppress(OSError):
            while piece := client.recv(65_536):
                carried[0] = 0
                server.sendall(piece)


def through(stream_url: str, line: str, door: str) -> str:
    """The same stream by another way."""
    parts = urlsplit(stream_url)
    return f"{line}{door}{parts.path}?{parts.query}"
