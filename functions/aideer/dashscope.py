"""One streamed call of DashScope, through its SDK.

What always holds: chunks put together are exactly the text that was sent; a stream that ends normally had a
finish_reason, and nothing that follows undoes the answer; a content filter that strikes after the call was accepted is a
finish_reason too; everything else that can happen upstream is an UpstreamError with a stable code; neither errors nor logs
carry text of a message; leaving the generator closes the upstream connection, which ends what is billed to us.

Of the SDK this uses the part that builds a request: address, headers and body. The classes above it do more than asked:
MultiModalConversation uploads a file of this machine when a user's text is its name. The layer below repeats requests,
takes each `data:` line for an event and knows one shape of errors, so this module reads the response itself.
"""

import json
import logging
import platform
import re
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

import aiohttp
from aws_lambda_powertools import Logger
from dashscope.api_entities.api_request_factory import _build_api_request

from aideer import connections
from aideer.connections import Call, Silence
from aideer.dashscope_answers import Answer, Chunk
from aideer.dashscope_errors import Refusal, UpstreamError
from aideer.dashscope_events import Event, Events

__all__ = ["Call", "Chunk", "UpstreamError", "stream"]

logger = Logger(service="aideer")
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
        "max_completion_tokens",
        "max_tokens",
        "presence_penalty",
        "reasoning_effort",
        "repetition_penalty",
        "response_format",
        "search_options",
        "seed",
        "stop",
        "temperature",
        "thinking_budget",
        "top_k",
        "top_p",
    }
)
"""The SDK takes these as keywords beside its own, such as base_address: no other name may come in with them."""

_LINGER_SECONDS = 0.3
"""How long the end of the body may take once the answer and its final usage are there."""
_LATE_USAGE_SECONDS = 5.0
"""How long the final usage may take after the end of the answer. One from before that end is not final."""
_REFUSAL_BYTES = 64 * 1024
"""How much of a refusal is read."""
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
    """Call a model and yield what it says as it says it.

    Iterate to the end, also past the chunk with the finish_reason: a last chunk may bring the usage, and only at the end can
    the connection be used again. The finish_reason is one of stop, length and content_filter.

    Parameters
    ----------
    messages : {role, content}. On the multimodal endpoint content may be a list of {"text": …} and {"image": …}, whose
        address begins with https:// or data:image/.
    parameters : DashScope's, of those that a preset may have.
    base_url : with /api/v1.
    idle_seconds : the longest time without progress: text, reasoning, or a usage that grew. Comments are none.
    first_seconds : the longest wait for the first text. It is `idle_seconds` where left out.
    call : is told when the request has been sent, and when it has been accepted.
    log_ids : fields of the log line `usage`, which names the counts that could not be read.

    Raises
    ------
    UpstreamError
        Where the provider, or the way to it, fails.
    ValueError
        Where the arguments could make the SDK do anything else than this one request.
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
    answer = Answer(model)
    silence = Silence(idle_seconds if first_seconds is None else first_seconds)
    talking, told = False, None
    response: aiohttp.ClientResponse | None = None
    try:
        response = await silence.wait(connections.post(base_url, request.url, request.headers, body, call))
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
                        talking, told = talking or bool(chunk.reasoning or chunk.content), chunk.usage or told
                        if answer.finished:
                            silence.renew(_LINGER_SECONDS if answer.usage_is_final else _LATE_USAGE_SECONDS)
                        elif talking or silence.left < idle_seconds:
                            # Before the first text, a usage that grows lengthens the patience and never shortens it.
                            silence.renew(idle_seconds)
                        yield chunk
            except Exception:
                for event in _received(coming, events, response.content):
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
            # A request that was written may be at work, though its connection is lost.
            retryable, detail = not call.sent, f"{model}: {type(error).__name__}"
            raise UpstreamError("upstream_error", detail, retryable=retryable, accepted=call.accepted) from None
    except Exception as error:  # anything may be on the wire: KeyError, TypeError, UnicodeDecodeError, ...
        if not answer.finished:
            detail = f"{model}: unreadable answer: {type(error).__name__}"
            raise UpstreamError("upstream_error", detail, accepted=call.accepted) from None
    finally:
        silence.end()
        if answer.unreadable:
            logger.warning("usage", extra={**(log_ids or {}), "model": model, "fields": sorted(answer.unreadable)})
        if response is not None:
            await connections.hang_up(response)
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
    return {"role": message["role"], "content": content}


def _received(coming: Iterable[Event], events: Events, body: aiohttp.StreamReader) -> Iterator[Event]:
    """Return the events that have been received already, without waiting for any."""
    with suppress(Exception):  # the connection may be lost, or an event too long: nothing more was received then
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
    """Read a refusal: JSON, an event stream, or the page of some proxy, which says nothing."""
    events = Events()
    for event in (*events.feed(body), *events.end()):
        try:
            for value in event.values():
                if refusal := Refusal.read(value):
                    return refusal
        except ValueError:
            break
    return Refusal()
