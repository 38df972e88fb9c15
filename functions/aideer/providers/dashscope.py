"""One streamed call of DashScope. The SDK builds the request, and this module reads the response.

Invariants: The chunks put together are exactly the text that the provider sent. A stream that ends normally had a finish_reason.
Later events do not undo the answer. If a content filter ends an accepted call, that is a finish_reason too. Every other failure
upstream is an UpstreamError with a stable code. Errors and logs contain no text of a message. Leaving the generator closes the
upstream connection, which ends the provider's billing.

This module uses only the part of the SDK that builds a request: address, headers and body. The classes above it do more than
asked: MultiModalConversation uploads a file of this machine if a user's text is its name. The layer below repeats requests, treats
each `data:` line as an event and knows only one format of errors.
"""

import json
import logging
import platform
import re
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

import aiohttp
from dashscope.api_entities.api_request_factory import _build_api_request

from aideer.core.logs import logger
from aideer.providers import dashscope_connections
from aideer.providers.dashscope_answers import Answer, Chunk
from aideer.providers.dashscope_connections import Call, Silence
from aideer.providers.dashscope_errors import Refusal, UpstreamError
from aideer.providers.dashscope_events import Event, Events

__all__ = ["Call", "Chunk", "UpstreamError", "stream"]
# The SDK logs the provider's messages and tracebacks, and both can quote a prompt. UpstreamError has all needed details.
_sdk_logger = logging.getLogger("dashscope")
_sdk_logger.handlers = [logging.NullHandler()]
_sdk_logger.propagate = False
_sdk_logger.setLevel(logging.CRITICAL + 1)
# The SDK names the processor in its User-Agent. Python starts a child process to learn it, so do that before the first request.
platform.processor()

_PARAMETERS = frozenset(
    {
        "enable_search",
        "enable_thinking",
        "max_completion_tokens",
        "max_tokens",
        "parallel_tool_calls",
        "presence_penalty",
        "reasoning_effort",
        "repetition_penalty",
        "response_format",
        "search_options",
        "seed",
        "stop",
        "temperature",
        "thinking_budget",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    }
)
"""The parameters that `stream` accepts. The SDK takes them as keywords beside its own, such as base_address, so no others may."""

_LINGER_SECONDS = 0.3
"""The longest wait for the end of the body after the answer and its final usage."""
_LATE_USAGE_SECONDS = 5.0
"""The longest wait for the final usage after the end of the answer. A usage from before that end is not final."""
_REFUSAL_BYTES = 64 * 1024
"""The number of bytes of a refusal after which reading stops."""
_IMAGE = re.compile(r"https://|data:image/[\w.+-]+;base64,")


async def stream(
    model: str,
    messages: Sequence[Mapping[str, Any]],
    parameters: Mapping[str, Any],
    *,
    endpoint: Literal["text", "multimodal"],
    api_key: str,
    base_url: str,
    idle_seconds: float,
    first_seconds: float | None = None,
    call: Call | None = None,
    log_ids: Mapping[str, str] | None = None,
) -> AsyncGenerator[Chunk, None]:
    """Call a model and yield chunks of its answer as they arrive.

    Iterate to the end, even past the chunk with the finish_reason. A last chunk may bring the usage, and the connection can be
    used again only after the end. The finish_reason is one of stop, length and content_filter, and tool_calls if the parameters
    have tools.

    Parameters
    ----------
    messages : {role, content}. On the multimodal endpoint, content may be a list of {"text": …} and {"image": …}. The address of
        an image begins with https:// or data:image/. A message may have `tool_calls` or `tool_call_id` too.
    parameters : DashScope's parameters, limited to those that a preset may have.
    base_url : including /api/v1.
    idle_seconds : the longest time without progress. Text, reasoning and a usage that grew are progress. Comments are not.
    first_seconds : the longest wait for the first text. The default is `idle_seconds`.
    call : records that the request was sent, and that it was accepted.
    log_ids : fields of the log line `usage`, which names the counts that could not be read.

    Raises
    ------
    UpstreamError
        If the provider, or the connection to it, fails.
    ValueError
        If the arguments could make the SDK do anything else than this one request.
    """
    if unknown := parameters.keys() - _PARAMETERS:
        raise ValueError(f"not a model parameter: {sorted(unknown)}")
    request = _build_api_request(
        model=model,
        input={"messages": [_message(message, endpoint) for message in messages]},
        task_group="aigc",
        task="text-generation" if endpoint == "text" else "multimodal-generation",
        function="generation",
        api_key=api_key,
        base_address=base_url,
        stream=True,
        result_format="message",
        incremental_output=True,
        **parameters,
    )
    _, payload = request.data.get_aiohttp_payload()
    body = json.dumps(payload, ensure_ascii=False).encode()
    call = call or Call()
    answer = Answer(model, calls_tools="tools" in parameters)
    silence = Silence(idle_seconds if first_seconds is None else first_seconds)
    talking, told = False, None
    response: aiohttp.ClientResponse | None = None
    try:
        response = await silence.wait(dashscope_connections.post(base_url, request.url, request.headers, body, call))
        if not call.accepted:
            refusal = _refusal(await silence.wait(_read(response)))
            raise refusal.error(model, response.status)  # noqa: TRY301 - not to be taken for an unreadable answer
        events = Events()
        while True:
            piece = await silence.read(response.content)
            coming = events.feed(piece) if piece else events.end()
            try:
                for event in coming:
                    for chunk in answer.read(event):
                        talking, told = talking or chunk.says_something, chunk.usage or told
                        if answer.finished:
                            silence.renew(_LINGER_SECONDS if answer.usage_is_final else _LATE_USAGE_SECONDS)
                        elif talking or silence.left < idle_seconds:
                            # Before the first text, a usage that grows can lengthen the wait but not shorten it.
                            silence.renew(idle_seconds)
                        yield chunk
            except Exception:
                for event in _take_received(coming, events, response.content):
                    answer.count(event)
                if answer.usage != told:
                    yield Chunk("", "", None, answer.usage)
                raise
            if not piece:
                break
    except UpstreamError:
        raise
    except TimeoutError:
        if not answer.finished:
            detail = f"{model}: no progress for {silence.seconds:g} s"
            raise UpstreamError("upstream_timeout", detail, accepted=call.accepted) from None
    except (aiohttp.ClientError, OSError) as error:
        if not answer.finished:
            # The provider may still work on a request that was sent, even if the connection is lost.
            retryable, detail = not call.sent, f"{model}: {type(error).__name__}"
            raise UpstreamError("upstream_error", detail, retryable=retryable, accepted=call.accepted) from None
    except Exception as error:  # the body can hold anything: KeyError, TypeError, UnicodeDecodeError, ...
        if not answer.finished:
            detail = f"{model}: unreadable answer: {type(error).__name__}"
            raise UpstreamError("upstream_error", detail, accepted=call.accepted) from None
    finally:
        silence.end()
        if answer.unreadable:
            logger.warning("usage", extra={**(log_ids or {}), "model": model, "fields": sorted(answer.unreadable)})
        if response is not None:
            await dashscope_connections.hang_up(response)
    if not answer.finished:
        raise UpstreamError("upstream_error", f"{model}: ended without a finish_reason", accepted=True)


def _message(message: Mapping[str, Any], endpoint: str) -> dict[str, Any]:
    content = message["content"]
    if endpoint == "multimodal":
        parts = [{"text": content}] if isinstance(content, str) else [dict(part) for part in content]
        for part in parts:
            [(kind, value)] = part.items()
            if kind not in ("text", "image") or (kind == "image" and not _IMAGE.match(value)):
                raise ValueError("media must be images at https addresses or in data: addresses")
        content = parts
    elif not isinstance(content, str):
        raise ValueError("the text endpoint takes text only")
    beside = {name: message[name] for name in ("tool_calls", "tool_call_id") if name in message}
    return {"role": message["role"], "content": content, **beside}


def _take_received(coming: Iterable[Event], events: Events, body: aiohttp.StreamReader) -> Iterator[Event]:
    """Yield the events that have been received already, without waiting for more."""
    with suppress(Exception):  # if the connection is lost, or an event too long, there are no more
        yield from coming
        yield from events.feed(body.read_nowait())
        if body.at_eof():
            yield from events.end()


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    while len(body) < _REFUSAL_BYTES and (piece := await response.content.readany()):
        body += piece
    return body


def _refusal(body: bytes) -> Refusal:
    """Read a refusal from JSON or an event stream. Return an empty Refusal for anything else, such as a proxy's page."""
    events = Events()
    for event in (*events.feed(body), *events.end()):
        try:
            for value in event.values():
                if refusal := Refusal.read(value):
                    return refusal
        except ValueError:
            break
    return Refusal()
