"""DashScope's OpenAI-compatible endpoint: the same tokens at the same pace as the native protocol has, for `make bench`.

Clients that know only OpenAI's protocol, such as the LiteLLM proxy, reach DashScope here. It streams and does nothing else. Of the
directives, it obeys those that plan an answer: tokens, delay and think. Nothing is recorded or billed.
"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

from local.simulators.dashscope_frames import dumps
from local.simulators.dashscope_scenarios import text_of
from local.simulators.dashscope_wire import Answer, wait_for_turn

COMPATIBLE_PATH = "/compatible-mode/v1/chat/completions"
DONE = b"data: [DONE]\n\n"

Plan = Callable[[str, str, dict[str, Any]], Answer]
"""Plans an answer to a question by its text, the model and the parameters."""


async def complete(request: web.Request, plan: Plan) -> web.StreamResponse:
    """Stream a chat completion."""
    try:
        body: dict[str, Any] = json.loads(await request.read())
        model, messages = str(body["model"]), list(body["messages"])
        said = next((text_of(message) for message in reversed(messages) if message["role"] == "user"), "")
    except (ValueError, KeyError, TypeError):
        return _refuse(400, "invalid_parameter_error", "Required body invalid, please check the request body format.")
    if not request.headers.get("Authorization", "").startswith("Bearer sk-"):
        return _refuse(401, "invalid_api_key", "Incorrect API key provided.")
    if not body.get("stream"):
        return _refuse(400, "invalid_parameter_error", "This simulation only streams: stream must be true.")
    with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream;charset=UTF-8"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    async for piece in _chunks(plan(said, model, body), model, messages, with_usage=with_usage):
        await response.write(piece)
    await response.write_eof()
    return response


async def _chunks(
    answer: Answer, model: str, messages: list[dict[str, Any]], *, with_usage: bool
) -> AsyncIterator[bytes]:
    started = asyncio.get_running_loop().time()
    head = {
        "id": f"chatcmpl-{uuid.uuid4()}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": None,
    }

    def chunk(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return f"data: {dumps({**head, 'choices': [choice], 'usage': None})}\n\n".encode()

    role = {"role": "assistant"}
    for index, (is_reasoning, token) in enumerate(answer.tokens):
        await wait_for_turn(started, index, answer.delay_seconds)
        yield chunk({**role, "reasoning_content" if is_reasoning else "content": token})
        role = {}
    await wait_for_turn(started, len(answer.tokens), answer.delay_seconds)
    yield chunk({**role, "content": ""}, answer.finish_reason)
    if with_usage:
        prompt = sum(4 + len(text_of(message).encode()) // 6 for message in messages)
        counts = {"prompt_tokens": prompt, "completion_tokens": len(answer.tokens)}
        usage = {**counts, "total_tokens": sum(counts.values())}
        yield f"data: {dumps({**head, 'choices': [], 'usage': usage})}\n\n".encode()
    yield DONE


def _refuse(status: int, code: str, message: str) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return web.json_response({"error": error, "request_id": str(uuid.uuid4())}, status=status)
