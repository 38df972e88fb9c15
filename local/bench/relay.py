"""The least that a server can do: DashScope's SDK behind uvicorn, which passes the text on as server-sent events.

It has no accounts, no credits and no storage. `make bench` compares AIDeer with it.

    python -m local.bench.relay DESCRIPTOR      serves on the listening socket with this descriptor

DASHSCOPE_HTTP_BASE_URL names the provider.
"""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from dashscope.aigc.generation import AioGeneration
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

API_KEY = "sk-bench"


async def _relay(request: Request) -> StreamingResponse:
    """Ask the model that the body names, and stream the text of its answer."""
    body = await request.json()
    return StreamingResponse(_events(body), media_type="text/event-stream")


async def _events(body: dict[str, Any]) -> AsyncIterator[str]:
    responses: Any = await AioGeneration.call(
        **body, api_key=API_KEY, stream=True, incremental_output=True, result_format="message"
    )
    async for response in responses:
        if response.status_code != 200:
            raise RuntimeError(response.code)
        yield f"data: {json.dumps({'content': response.output.choices[0].message.content}, ensure_ascii=False)}\n\n"


app = Starlette(routes=[Route("/", _relay, methods=["POST"])])


def main() -> None:
    """Serve until SIGTERM."""
    sock = socket.socket(fileno=int(sys.argv[1]))
    config = uvicorn.Config(app, access_log=False, log_level="warning")
    asyncio.run(uvicorn.Server(config).serve(sockets=[sock]))


if __name__ == "__main__":
    main()
