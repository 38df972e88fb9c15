"""What a provider may send, byte by byte, and how it must end: unit/provider_cases.jsonl, and a server that plays it.

Each line of the file is a case: {case, endpoint, http, content_type, wire, want}. `wire` is the response's body in the
pieces in which it is sent. A number between them is a pause in seconds, and an object is one of {"hex": bytes that are no
UTF-8}, {"reset": true}, {"hang_up": true} (an orderly close inside the body) and {"hold": true} (silence until the client
leaves). Without one of the last three the body ends well. `want` names the end that the provider's call must have:

- end: "finished", with finish_reason ("stop" if left out), content and reasoning; or "failed", with code and retry
- usage: {input, output, reasoning, cached, searches}, null for none; counts that are left out are 0
- sources: how many search results must arrive
- accepted: whether the provider bills the call (true if left out for status 200, and false for any other)

    for case in CASES:
        with play(case) as played: ... dashscope.stream(..., base_url=played.base_url) ...
"""

import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.waiting import PATIENCE_SECONDS

PACE = 0.2
"""How fast pauses pass here: a second of a case takes a fifth, and so must the patience of who is tested."""


@dataclass(frozen=True, slots=True)
class Case:
    """One response, and how it must end."""

    name: str
    endpoint: Literal["text", "multimodal"]
    status: int
    content_type: str
    wire: list[Any]
    want: dict[str, Any]

    @property
    def accepted(self) -> bool:
        return bool(self.want.get("accepted", self.status == 200))


@dataclass(slots=True)
class Played:
    """A server that answers every request with one case."""

    base_url: str
    requests: list[bytes] = field(default_factory=list)
    """The bodies that were received, one of each request."""


def _cases() -> Iterator[Case]:
    for line in (
        Path(__file__)
        .with_name("unit")
        .joinpath("aideer", "providers", "provider_cases.jsonl")
        .read_text("utf-8")
        .splitlines()
    ):
        case = json.loads(line)
        yield Case(case["case"], case["endpoint"], case["http"], case["content_type"], case["wire"], case["want"])


CASES = list(_cases())


@contextmanager
def play(case: Case, *, pace: float = PACE, segment_bytes: int | None = None) -> Iterator[Played]:
    """Serve a case on loopback until the block ends. `segment_bytes` cuts each piece into pieces of that size."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        played = Played(f"http://127.0.0.1:{listening.getsockname()[1]}/api/v1")
        over = threading.Event()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    try:
                        _answer(connection, case, played, pace, segment_bytes, over)
                    except OSError:
                        continue

        server = threading.Thread(target=serve, name=f"plays {case.name}", daemon=True)
        server.start()
        try:
            yield played
        finally:
            over.set()
            listening.shutdown(socket.SHUT_RDWR)
            server.join(PATIENCE_SECONDS)


def _answer(
    connection: socket.socket, case: Case, played: Played, pace: float, segment_bytes: int | None, over: threading.Event
) -> None:
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(65536)
        if not piece:
            return
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split()[0])
    while len(body) < length:
        body += connection.recv(65536)
    played.requests.append(body)
    head_lines = f"HTTP/1.1 {case.status} X\r\nContent-Type: {case.content_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.sendall(head_lines.encode())
    for piece in case.wire:
        match piece:
            case int() | float():
                over.wait(piece * pace)
            case {"reset": True}:
                time.sleep(0.05)  # what was sent shall be read before the reset
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            case {"hang_up": True}:
                return
            case {"hold": True}:
                connection.settimeout(20)
                connection.recv(1)
                return
            case _:
                raw = bytes.fromhex(piece["hex"]) if isinstance(piece, dict) else piece.encode()
                for start in range(0, len(raw), segment_bytes or len(raw)):
                    segment = raw[start : start + (segment_bytes or len(raw))]
                    connection.sendall(b"%x\r\n%s\r\n" % (len(segment), segment))
    connection.sendall(b"0\r\n\r\n")
    connection.settimeout(20)
    connection.recv(1)  # the client closes, as it is told that the connection is not used again
