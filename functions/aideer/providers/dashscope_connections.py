"""Connections to a provider: one pool per event loop and address, closed with its loop.

A request is sent only once. aiohttp does not retry a POST, and a connection that its server may have closed is not used.

`open_ahead` opens the connection of a later request. So TCP and TLS take their time while a transaction does.
"""

import asyncio
import atexit
import contextlib
import socket
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

IDLE_SECONDS = 50
"""How long a pooled connection may stay idle. Servers close idle connections after a minute or more."""
AHEAD_SECONDS = 5.0
"""The longest time that `open_ahead` takes. Then the request opens a connection itself."""
_T = TypeVar("_T")


@dataclass(slots=True)
class Call:
    """The progress of a call. From it, the caller knows whether the provider bills the call."""

    sent: bool = False
    """The request's headers were sent. From now on, the provider may process the request."""
    accepted: bool = False
    """The provider answered with status 200, so it bills the call."""


class Silence:
    """A limit on the time without progress of a provider. Only the time spent waiting for the provider counts.

    One timer serves a whole answer and is rarely restarted. A time-out around each read would cost 8 µs of CPU per event.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = self.left = seconds
        self._loop = asyncio.get_running_loop()
        self._reader: aiohttp.StreamReader | None = None
        self._since: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, coming: Awaitable[_T]) -> _T:
        """Return the result of `coming`. Raises TimeoutError if the time runs out first."""
        since = self._loop.time()
        async with asyncio.timeout(self.left):
            came = await coming
        self.left -= self._loop.time() - since
        return came

    async def read(self, reader: aiohttp.StreamReader) -> bytes:
        """Return the bytes that have arrived, or b"" at the end. Raises TimeoutError if the time runs out first."""
        self._reader, self._since = reader, self._loop.time()
        if self._timer is None:
            self._look()
        piece = await reader.readany()
        self.left -= self._loop.time() - self._since
        self._since = None
        return piece

    def renew(self, seconds: float) -> None:
        """Start again with this limit."""
        if seconds < self.left and self._timer:
            self.end()
        self.seconds = self.left = seconds

    def end(self) -> None:
        """Cancel the timer."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        left = self.left if self._since is None else self.left - (self._loop.time() - self._since)
        if left <= 0 and self._reader and self._since is not None:
            self._reader.set_exception(TimeoutError())
        else:
            self._timer = self._loop.call_later(max(left, 0.01), self._look)


_Key = tuple[asyncio.AbstractEventLoop, str]
_sessions: dict[_Key, tuple[aiohttp.ClientSession, AsyncGenerator[None, None]]] = {}
"""One pool per event loop (so also per thread) and address. The SDK's own pool stops at 100 streams and reads ~/.netrc."""


async def get_session(base_url: str, *, waits: bool = True) -> aiohttp.ClientSession:
    """Return this event loop's pool of connections to `base_url`.

    A server may have closed a connection while the loop did not run, as between invocations. By default, let the loop notice it.
    """
    key = (asyncio.get_running_loop(), base_url)
    if key in _sessions:
        for _ in range(3 * waits):
            await asyncio.sleep(0)
    else:
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_sent)
        opened = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS, socket_factory=_socket),
            proxy=_proxy(base_url),
            timeout=aiohttp.ClientTimeout(total=None),
            trace_configs=[trace],
        )
        _sessions[key] = opened, _close_with_loop(key, opened)
        await anext(_sessions[key][1])
    return _sessions[key][0]


_ahead: ContextVar["asyncio.Task[None] | None"] = ContextVar("ahead", default=None)
"""The task that opens a connection for the requests of this context."""


def open_ahead(base_url: str) -> None:
    """Begin to open a connection to `base_url`, and return at once. A later `post` of this context or of its tasks uses it.

    Nothing is sent over it before. If it cannot be opened, or if no request follows, that has no effect.
    """
    _ahead.set(asyncio.get_running_loop().create_task(_open(base_url)))


async def _open(base_url: str) -> None:
    """Put an open connection into the pool. If the pool has one, that stays there."""
    with contextlib.suppress(Exception):  # `post` opens its own then, and reports what prevents that
        pool = await get_session(base_url)
        proxy = _proxy(base_url)
        request = aiohttp.ClientRequest(
            "POST", URL(base_url), loop=asyncio.get_running_loop(), session=pool, proxy=URL(proxy) if proxy else None
        )
        if pool.connector:
            connection = await pool.connector.connect(request, [], aiohttp.ClientTimeout(connect=AHEAD_SECONDS))
            connection.release()


async def post(base_url: str, url: str, headers: Mapping[str, str], body: bytes, call: Call) -> aiohttp.ClientResponse:
    """Send one request and return its response, with the body still unread. `call` records the progress."""
    if ahead := _ahead.get():
        await asyncio.wait([ahead])
    pool = await get_session(base_url, waits=ahead is None)
    # A redirect would send the prompt and the key to another address.
    response = await pool.post(url, data=body, headers=headers, allow_redirects=False, trace_request_ctx=call)
    call.accepted = response.status == 200
    return response


async def hang_up(response: aiohttp.ClientResponse) -> None:
    """Close a response's connection. If the body was read to its end, the connection is already back in the pool."""
    if not response.closed:
        response.close()
        await asyncio.sleep(0)  # the transport closes its socket in the loop's next round


async def _sent(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _params: aiohttp.TraceRequestHeadersSentParams
) -> None:
    context.trace_request_ctx.sent = True


async def _close_with_loop(key: _Key, session: aiohttp.ClientSession) -> AsyncGenerator[None, None]:
    """Close the session when its loop ends: asyncio.run ends a loop's generators before it closes the loop."""
    try:
        yield
    finally:
        _sessions.pop(key, None)
        await session.close()


@atexit.register
def _close_with_process() -> None:
    """Close the sessions of loops that live as long as the process, as between invocations. No other code closes them."""
    for (loop, _), (_, closer) in list(_sessions.items()):
        if not loop.is_running() and not loop.is_closed():
            loop.run_until_complete(closer.aclose())


async def close() -> None:
    """Close this event loop's connections. This is needed only if a loop is closed without shutdown_asyncgens()."""
    loop = asyncio.get_running_loop()
    for _, closer in [pooled for key, pooled in _sessions.items() if key[0] is loop]:
        await closer.aclose()


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Return a socket that fails within seconds if its connection died while Lambda was frozen.

    Without TCP_USER_TIMEOUT, it fails after 15 minutes (tcp(7)).
    """
    family, kind, protocol, *_ = address
    connection = socket.socket(family, kind, protocol)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 5000)
    return connection


def _proxy(base_url: str) -> str | None:
    """Return the environment's proxy (HTTPS_PROXY, NO_PROXY) for `base_url`. Addresses of this machine have none."""
    url = urlsplit(base_url)
    host = url.hostname or ""
    if host in ("localhost", "127.0.0.1", "::1") or proxy_bypass(host):
        return None
    return getproxies().get(url.scheme)
