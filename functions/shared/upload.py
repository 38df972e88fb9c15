"""GET /api/v1/shared/{token}/messages/{n}/upload: an uploaded image, for anybody who has a link to its chat."""

from typing import Annotated

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Path

from aideer.chats import shared_chats
from aideer.schemas.paths import MessageNumber
from aideer.security.callers import Address
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]

Token = Annotated[str, Path(min_length=1, max_length=200)]
TYPE = "image/jpeg"


@app.get(
    "/api/v1/shared/<token>/messages/<n>/upload",
    **describe(
        "See an image by a link",
        errors=(404, 429, 503),
        public=True,
        content={TYPE: {"schema": {"type": "string", "format": "binary"}}},
    ),
)
def get_upload(token: Token, n: MessageNumber, address: Address):  # type: ignore[no-untyped-def] # the body is an image
    """Show the uploaded image of a message that the link shows. Without an image, the 404 is that of an unknown link."""
    image = shared_chats.read_image(token, n, address)
    return Response(status_code=200, content_type=TYPE, headers=dict(shared_chats.HEADERS), body=image)
