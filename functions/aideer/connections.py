"""The connections on which a provider is called: one pool per event loop and address, closed with its loop.

A call hangs up as soon as its caller leaves, and is never repeated once the provider may have got it.
"""

import asyncio
import atexit
import socket
from collections.abc import AsyncGenerator
from contextvars import ContextVar
from dataclasses import dataclass
from types import SimpleNamespace
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

_LINE_BYTES = 8 * 1024 * 1024
"""The longest line of an answer."""


@dataclass(slots=True)
class Call:
    """How far a call got, for its caller, who must know whether the provider bills it."""

    sent: bool = False
    """The request's headers have left: from here on the provider may work on it."""
    accepted: bool = False
    """The provider has answered with status 200: it bills the call."""


_Key = tuple[asyncio.AbstractEventLoop, str]
_sessions: dict[_Key, tuple[aiohttp.ClientSession, AsyncGenerator[None, None]]] = {}
"""One pool per event loop, so also per thread, and address. The SDK's own stops at 100 streams and reads ~/.netrc."""


class Connection:
    """Learns which response the SDK opened within `with`, in order to close it.

    The SDK repeats a request whose connection was lost before the response. That is right for a pooled connection, which may
    have died unnoticed, and wrong for a new one: the provider has got the request, and would work, and bill, twice.
    """

    _opening: ContextVar["Connection"] = ContextVar("opening")

    def __init__(self, call: Call | None = None) -> None:
        self.call = call or Call()
        self._response: aiohttp.ClientResponse | None = None
        self._asked = self._pooled = False

    def __enter__(self) -> None:
        self._token = self._opening.set(self)

    def __exit__(self, *_: object) -> None:
        self._opening.reset(self._token)

    @classmethod
    async def asked(
        cls, _session: aiohttp.ClientSession, _context: SimpleNamespace, _params: aiohttp.TraceRequestStartParams
    ) -> None:
        connection = cls._opening.get()
        if connection._asked and not connection._pooled:
            raise aiohttp.ClientConnectionError
        connection._asked = True

    @classmethod
    async def reused(
        cls, _session: aiohttp.ClientSession, _context: SimpleNamespace, _params: aiohttp.TraceConnectionReuseconnParams
    ) -> None:
        cls._opening.get()._pooled = True

    @classmethod
    async def sent(
        cls, _session: aiohttp.ClientSession, _context: SimpleNamespace, _params: aiohttp.TraceRequestHeadersSentParams
    ) -> None:
        cls._opening.get().call.sent = True

    @classmethod
    async def opened(
        cls, _session: aiohttp.ClientSession, _context: SimpleNamespace, params: aiohttp.TraceRequestEndParams
    ) -> None:
        connection = cls._opening.get()
        connection._response = params.response
        connection.call.accepted = params.response.status == 200

    async def close(self) -> None:
        """Hang up. Left to itself the SDK does so only when its generators are collected."""
        if self._response is not None and not self._response.closed:
            self._response.close()
            await asyncio.sleep(0)  # the transport closes its socket in the loop's next round


async def session(base_url: str) -> aiohttp.ClientSession:
    """This event loop's pool of connections to that address."""
    key = (asyncio.get_running_loop(), base_url)
    if key not in _sessions:
        trace = aiohttp.TraceConfig()
        trace.on_request_start.append(Connection.asked)
        trace.on_connection_reuseconn.append(Connection.reused)
        trace.on_request_headers_sent.append(Connection.sent)
        trace.on_request_end.append(Connection.opened)
        opened = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60, socket_factory=_socket),
            proxy=_proxy(base_url),
            read_bufsize=_LINE_BYTES // 2,
            trace_configs=[trace],
        )
        _sessions[key] = opened, _close_with_loop(key, opened)
        await anext(_sessions[key][1])
    return _sessions[key][0]


async def _close_with_loop(key: _Key, session: aiohttp.ClientSession) -> AsyncGenerator[None, None]:
    """asyncio.run ends a loop's generators before it closes the loop: this one then closes the session."""
    try:
        yield
    finally:
        _sessions.pop(key, None)
        await session.close()


@atexit.register
def _close_with_process() -> None:
    """A loop that is kept for as long as the process lives, as between invocations, is closed by nobody."""
    for (loop, _), (_, closer) in list(_sessions.items()):
        if not loop.is_running() and not loop.is_closed():
            loop.run_until_complete(closer.aclose())


async def close() -> None:
    """Close this event loop's connections. Needed only where a loop is closed without shutdown_asyncgens()."""
    loop = asyncio.get_running_loop()
    for _, closer in [pooled for key, pooled in _sessions.items() if key[0] is loop]:
        await closer.aclose()


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A connection that died while Lambda was frozen must fail within seconds, not after 15 minutes (tcp(7))."""
    family, kind, protocol, *_ = address
    connection = socket.socket(family, kind, protocol)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 5000)
    return connection


def _proxy(base_url: str) -> str | None:
    """The environment's proxy (HTTPS_PROXY, NO_PROXY), but never one to this machine."""
    url = urlsplit(base_url)
    host = url.hostname or ""
    if host in ("localhost", "127.0.0.1", "::1") or proxy_bypass(host):
        return None
    return getproxies().get(url.scheme)
