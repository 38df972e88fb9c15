"""One streamed call of DashScope, through its SDK.

What always holds: chunks put together are exactly the text that was sent; a stream that ends normally had a
finish_reason, and everything else that can happen upstream is an UpstreamError with a stable code; neither errors nor
logs carry text of a message; leaving the generator closes the upstream connection, which ends what is billed to us.

Of the SDK's APIs this is the request layer of v1. The classes above it do more than asked: MultiModalConversation
uploads a file of this machine when a user's text is its name, and each wraps every event in four more objects. Where
one event comes each millisecond it takes 106 µs of CPU here, 154 in those classes, 217 in v2 (httpx and pydantic).
"""

import asyncio
import atexit
import logging
import platform
import re
import socket
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from dashscope.client.base_api import BaseAioApi

from aideer.pricing import Usage

# The SDK logs the provider's messages and tracebacks, and both can quote a prompt. UpstreamError says what is needed.
_sdk_logger = logging.getLogger("dashscope")
_sdk_logger.handlers = [logging.NullHandler()]
_sdk_logger.propagate = False
_sdk_logger.setLevel(logging.CRITICAL + 1)
# The SDK names the processor in its User-Agent, which Python learns from a child process: better now than in a request.
platform.processor()

_PARAMETERS = frozenset(
    {
        "enable_search",
        "enable_thinking",
        "max_tokens",
        "presence_penalty",
        "repetition_penalty",
        "seed",
        "stop",
        "temperature",
        "thinking_budget",
        "top_k",
        "top_p",
    }
)
"""The SDK takes these as keywords beside its own, such as base_address: no other name may come in with them."""

_ERRORS = (
    ("Throttling", "throttled", True),
    ("DataInspectionFailed", "content_filtered", False),
    ("InvalidApiKey", "upstream_auth", False),
    ("AccessDenied", "upstream_auth", False),
    # Our account owes money. Like a bad key it is the operator's to repair, and no retry helps.
    ("Arrearage", "upstream_auth", False),
    ("RequestTimeOut", "upstream_timeout", True),
    ("InternalError", "upstream_error", True),
    ("ServiceUnavailable", "upstream_error", True),
    ("InvalidParameter", "upstream_error", False),
)
"""(beginning of DashScope's code, ours, worth another try). Alibaba Model Studio, "Error messages"."""

_LINE_BYTES = 8 * 1024 * 1024
_LINGER_SECONDS = 1.0
"""How long the end of the body may take once the answer is complete."""
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one event added. `usage` counts from the beginning of the call."""

    reasoning: str
    content: str
    finish_reason: str | None
    usage: Usage | None


class UpstreamError(Exception):
    """The call failed: `code` is one of throttled, content_filtered, upstream_auth, upstream_timeout, upstream_error.

    `retryable` says that the same call may work in a moment; whether it may be repeated is for the caller, who knows
    whether text was shown. `detail` names DashScope's code and request id for the log, and never text.
    """

    def __init__(self, code: str, detail: str = "", *, retryable: bool = False) -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail
        self.retryable = retryable


async def stream(
    model: str,
    messages: Sequence[Mapping[str, Any]],
    parameters: Mapping[str, Any],
    *,
    endpoint: Literal["text", "multimodal"],
    api_key: str,
    base_url: str,
    idle_seconds: float,
) -> AsyncGenerator[Chunk, None]:
    """Call a model and yield what it says as it says it.

    Iterate to the end, also past the chunk with the finish_reason: only then can the connection be used again.

    Parameters
    ----------
    messages : {role, content}. On the multimodal endpoint content may be a list of {"text": …} and {"image": "https://…"}.
    parameters : DashScope's, of those that a preset may have.
    base_url : with /api/v1.
    idle_seconds : the longest silence, and the longest wait for the first event.

    Raises
    ------
    UpstreamError
        Where the provider, or the way to it, fails.
    ValueError
        Where the arguments could make the SDK do anything else than this one request.
    """
    if unknown := parameters.keys() - _PARAMETERS:
        raise ValueError(f"not a model parameter: {sorted(unknown)}")
    said = [_message(message, endpoint) for message in messages]
    reasoning, content = _Text(), _Text()
    connection = _Connection()
    finished = False
    try:
        events = await BaseAioApi.call(
            model=model,
            input={"messages": said},
            task_group="aigc",
            task="text-generation" if endpoint == "text" else "multimodal-generation",
            function="generation",
            api_key=api_key,
            base_address=base_url,
            session=await _session(base_url),
            request_timeout=idle_seconds,
            stream=True,
            result_format="message",
            incremental_output=True,
            **parameters,
        )
        # The SDK sets no limit to connecting, and would repeat a request that timed out before its response.
        async with asyncio.timeout(idle_seconds):
            with connection:
                event = await anext(events, None)
        while event is not None:
            thought, text, finish_reason = _delta(event)
            thought, text = reasoning.add(thought), content.add(text)
            if finish_reason:
                finished = True
                thought, text = thought + reasoning.rest(), text + content.rest()
            yield Chunk(thought, text, finish_reason, _usage(event.usage))
            if finished:
                async with asyncio.timeout(_LINGER_SECONDS):
                    event = await anext(events, None)
            else:
                event = await anext(events, None)
    except UpstreamError:
        raise
    except TimeoutError:
        if not finished:
            raise UpstreamError("upstream_timeout", f"silent for {idle_seconds:g} s") from None
    except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError) as error:
        if not finished:
            raise UpstreamError("upstream_error", type(error).__name__, retryable=True) from None
    except Exception as error:  # the SDK takes the wire at its word: KeyError, TypeError, UnicodeDecodeError, ...
        raise UpstreamError("upstream_error", f"unreadable answer: {type(error).__name__}") from None
    finally:
        await connection.close()
    if not finished:
        raise UpstreamError("upstream_error", "ended without a finish_reason")


def _message(message: Mapping[str, Any], endpoint: str) -> dict[str, Any]:
    content = message["content"]
    if endpoint == "multimodal":
        parts = [{"text": content}] if isinstance(content, str) else [dict(part) for part in content]
        for part in parts:
            [(kind, value)] = part.items()
            if kind not in ("text", "image") or (kind == "image" and not value.startswith("https://")):
                raise ValueError("media must be images at https addresses")
        content = parts
    elif not isinstance(content, str):
        raise ValueError("the text endpoint takes text only")
    return {"role": message["role"], "content": content}


def _delta(event: Any) -> tuple[str, str, str | None]:
    """Return (reasoning, content, finish_reason) of one event."""
    if event.status_code != 200:
        raise _refusal(event)
    choice = (event.output["choices"] or [{}])[0]
    message = choice.get("message") or {}
    content = message.get("content") or ""
    if isinstance(content, list):
        content = "".join(part.get("text") or "" for part in content)
    finish_reason = choice.get("finish_reason")
    if finish_reason in (None, "", "null"):
        finish_reason = None
    elif finish_reason not in ("stop", "length"):
        raise UpstreamError("upstream_error", "a finish_reason that was not asked for")
    return message.get("reasoning_content") or "", content, finish_reason


def _usage(reported: Any) -> Usage | None:
    if not reported:
        return None
    reasoning_tokens = (reported.get("output_tokens_details") or {}).get("reasoning_tokens") or 0
    counts = (reported.get("input_tokens"), reported.get("output_tokens"), reasoning_tokens)
    return Usage(*counts) if all(type(count) is int and count >= 0 for count in counts) else None


def _refusal(event: Any) -> UpstreamError:
    """Tell by DashScope's code, then by status: within a stream the SDK always says 400."""
    code, status = str(event.code or ""), event.status_code
    known = re.sub(r"[^\w.-]", "", code)[:64]
    request_id = re.sub(r"[^\w-]", "", str(event.request_id or ""))[:64]
    detail = f"{known or 'no code'}, status {status}, request {request_id or 'unknown'}"
    for beginning, ours, retryable in _ERRORS:
        if code.startswith(beginning):
            return UpstreamError(ours, detail, retryable=retryable)
    if status == 429:
        return UpstreamError("throttled", detail, retryable=True)
    if status in (401, 403):
        return UpstreamError("upstream_auth", detail)
    if status in (408, 504):
        return UpstreamError("upstream_timeout", detail, retryable=True)
    return UpstreamError("upstream_error", detail, retryable=status >= 500)


class _Text:
    """Joins surrogate pairs that were cut between two events. What never finds its other half becomes U+FFFD."""

    __slots__ = ("_half",)

    def __init__(self) -> None:
        self._half = ""

    def add(self, piece: str) -> str:
        if not piece:
            return ""
        piece = self._half + piece
        self._half = ""
        if not _SURROGATE.search(piece):
            return piece
        if "\ud800" <= piece[-1] <= "\udbff":
            piece, self._half = piece[:-1], piece[-1]
        return piece.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def rest(self) -> str:
        half, self._half = self._half, ""
        return "\ufffd" if half else ""


# Connections

_Key = tuple[asyncio.AbstractEventLoop, str]
_sessions: dict[_Key, tuple[aiohttp.ClientSession, AsyncGenerator[None, None]]] = {}
"""One pool per event loop, so also per thread, and address. The SDK's own stops at 100 streams and reads ~/.netrc."""


class _Connection:
    """Learns which response the SDK opened within `with`, in order to close it.

    The SDK repeats a request whose connection was lost before the response. That is right for a pooled connection, which may
    have died unnoticed, and wrong for a new one: the provider has got the request, and would work, and bill, twice.
    """

    _opening: ContextVar["_Connection"] = ContextVar("opening")

    def __init__(self) -> None:
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
    async def opened(
        cls, _session: aiohttp.ClientSession, _context: SimpleNamespace, params: aiohttp.TraceRequestEndParams
    ) -> None:
        cls._opening.get()._response = params.response

    async def close(self) -> None:
        """Hang up. Left to itself the SDK does so only when its generators are collected."""
        if self._response is not None and not self._response.closed:
            self._response.close()
            await asyncio.sleep(0)  # the transport closes its socket in the loop's next round


async def _session(base_url: str) -> aiohttp.ClientSession:
    key = (asyncio.get_running_loop(), base_url)
    if key not in _sessions:
        trace = aiohttp.TraceConfig()
        trace.on_request_start.append(_Connection.asked)
        trace.on_connection_reuseconn.append(_Connection.reused)
        trace.on_request_end.append(_Connection.opened)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60, socket_factory=_socket),
            proxy=_proxy(base_url),
            read_bufsize=_LINE_BYTES // 2,
            trace_configs=[trace],
        )
        _sessions[key] = session, _close_with_loop(key, session)
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
