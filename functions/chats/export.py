"""GET /chats/{id}/export: a chat as a file."""

from typing import Annotated

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query

from aideer.chats import exports
from aideer.schemas.paths import ChatId
from aideer.security.readers import Reader
from aideer.web import pagination
from aideer.web.http import app, handler
from aideer.web.openapi import PAGE_HEADERS, describe

__all__ = ["handler"]

After = Annotated[int, Query(ge=0, le=2**53, description="From behind this message on: Link has it.")]
Branch = Annotated[
    str | None,
    Query(min_length=1, max_length=64, description="Export this branch to its end. Without it: the shown branch."),
]
MEDIA_TYPES = {"json": "application/json", "markdown": "text/markdown; charset=utf-8"}


@app.get(
    "/api/v1/chats/<id>/export",
    **describe(
        "Export a chat",
        errors=(403, 404, 429),
        content={
            "application/json": {"schema": {"$ref": "#/components/schemas/ChatResponse"}},
            "text/markdown": {"schema": {"type": "string"}},
        },
        headers={
            "Content-Disposition": {"description": "The file's name.", "schema": {"type": "string"}},
            "Link": PAGE_HEADERS["Link"],
        },
    ),
)
def export(  # type: ignore[no-untyped-def]
    user: Reader, id: ChatId, format: exports.Format = "json", after: After = 0, branch: Branch = None
):
    """Return your own chat as a file of at most 5 MB, with its hidden messages. If more messages follow, Link leads to the next
    file.

    As JSON, the file is a chat as GET /chats/{id} shows it. For all branches, export each of the `siblings` that you find.
    """
    text, headers, rest = exports.export(user, id, format, after, branch)
    if rest is not None:
        headers["Link"] = pagination.next_link(after=rest)
    headers["Cache-Control"] = "private, no-store"
    return Response(status_code=200, content_type=MEDIA_TYPES[format], body=text, headers=headers)
