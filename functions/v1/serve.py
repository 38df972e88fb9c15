"""OpenAI's API: /v1/models and /v1/chat/completions. One ASGI app behind a Lambda URL of its own (under the web adapter, serve.sh).

It shares the executor with tasks/stream.py, and has permissions of its own: it never touches chats and messages.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aideer.completions import door, refusals
from aideer.web import asgi

LEAVING_SECONDS = 5.0


async def list_models(request: Request) -> Response:
    """List the models that the caller may ask."""
    return JSONResponse({"object": "list", "data": await door.list_models(request)})


async def get_model(request: Request) -> Response:
    """Show one model."""
    return JSONResponse(await door.get_model(request))


async def complete(request: Request) -> Response:
    """Answer a chat, streamed or whole."""
    return await door.complete(request)


async def cancel(request: Request) -> Response:
    """Stop a completion. It is an extension: OpenAI has no such call."""
    return JSONResponse(await asyncio.shield(door.cancel(request)))


@contextlib.asynccontextmanager
async def _lifespan(_: Starlette) -> AsyncIterator[None]:
    from aideer.tasks import executor  # with the SDK, before the first completion

    yield
    await executor.finish(LEAVING_SECONDS)


_ROUTES = [
    Route("/v1/models", list_models, methods=["GET"]),
    Route("/v1/models/{id}", get_model, methods=["GET"]),
    Route("/v1/chat/completions", complete, methods=["POST"]),
    Route("/v1/chat/completions/{id}/cancel", cancel, methods=["POST"]),
]
app = asgi.make_application(_ROUTES, _lifespan, lambda error: refusals.of_error(error).response())
