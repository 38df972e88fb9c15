"""A proxy that gives up a connection on which nothing has come for some time, as load balancers do."""

import contextlib
import socket
import threading
from urllib.parse import urlsplit

GIVES_UP_SECONDS = 60.0


def relay(listening: socket.socket, url: str, seconds: float = GIVES_UP_SECONDS) -> None:
    """Relay what comes to a listening socket to the server at this address, until the socket is closed."""
    target = urlsplit(url)
    arguments = (listening, (target.hostname, target.port), seconds)
    threading.Thread(target=_accept, args=arguments, daemon=True).start()


def _accept(listening: socket.socket, target: tuple[str, int], seconds: float) -> None:
    with contextlib.suppress(OSError):  # closed
        while True:
            client, _ = listening.accept()
            server = socket.create_connection(target)
            server.settimeout(seconds)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=_relay, args=(source, sink), daemon=True).start()


def _relay(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
