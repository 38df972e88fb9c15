"""POST /api/v1/users/me/avatar: set your avatar image."""

from typing import Annotated

from aws_lambda_powertools.event_handler.openapi.params import File, UploadFile

from aideer.accounts import avatars, users
from aideer.schemas.users import UserResponse
from aideer.security.callers import Visitor
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.post("/api/v1/users/me/avatar", **describe("Set one's picture", errors=(413, 415, 429)))
def set_avatar(
    user: Visitor,
    avatar_file: Annotated[UploadFile, File(description="JPEG, PNG, WebP, GIF, AVIF, BMP or TIFF, at most 4 MB.")],
) -> UserResponse:
    """The image becomes a JPEG of 128×128 pixels: its middle, upright, over white, without metadata.

    An animated image gives its first frame.
    """
    return users.to_response(avatars.replace(user, avatar_file.content))
