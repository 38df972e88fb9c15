"""One streamed call of DashScope, through its SDK.

What always holds: chunks put together are exactly the text that was sent; a stream that ends normally had a
finish_reason, and everything else that can happen upstream is an UpstreamError with a stable code; neither errors nor
logs carry text of a message; leaving the generator closes the upstream connection, which ends what is billed to us.

Of the SDK's APIs this is the request layer of v1. The classes above it do more than asked: MultiModalConversation
uploads a file of this machine when a user's text is its name, and each wraps every event in four more objects. Where
one event comes each millisecond it takes 106 µs of CPU here, 154 in those classes, 217 in v2 (httpx and pydantic).
"""

import asyncio
import logging
import platform
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
from dashscope.client.base_api import BaseAioApi

from aideer import connections
from aideer.connections import Call
from aideer.usage import Source, Usage

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
    sources: tuple[Source, ...] = ()
    """The web pages that the provider found for this answer, all of them so far."""


class UpstreamError(Exception):
    """The call failed: `code` is one of throttled, content_filtered, upstream_auth, upstream_timeout, upstream_error.

    `retryable` says that the same call may work in a moment; whether it may be repeated is for the caller, who knows
    whether text was shown. `detail` names DashScope's code and request id for the log, and never text.
    """

    def __init__(self, code: str, detail: str = "", *, retryable: bool = False, accepted: bool = False) -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.accepted = accepted
        """Whether the provider had answered with status 200 before: then it bills the call, and nothing may repeat it."""
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
    call: Call | None = None,
) -> AsyncGenerator[Chunk, None]:
    """Call a model and yield what it says as it says it.

    Iterate to the end, also past the chunk with the finish_reason: only then can the connection be used again.

    Parameters
    ----------
    messages : {role, content}. On the multimodal endpoint content may be a list of {"text": …} and {"image": "https://…"}.
    parameters : DashScope's, of those that a preset may have.
    base_url : with /api/v1.
    idle_seconds : the longest silence, and the longest wait for the first event.
    call : is told when the request has been sent, and when it has been accepted.

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
    connection = connections.Connection(call)
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
            session=await connections.session(base_url),
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
