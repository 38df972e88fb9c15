"""POST /api/v1/users/me/avatar: take in a picture of the user."""

from typing import Annotated

from aws_lambda_powertools.event_handler.openapi.params import File, UploadFile

from aideer import avatars, users
from aideer.auth import Visitor
from aideer.contract.users import User
from aideer.http import app, handler
from aideer.responses import documented

__all__ = ["handler"]


@app.post("/api/v1/users/me/avatar", **documented("Set one's picture", errors=(413, 415)))
def set_avatar(
    user: Visitor,
    avatar_file: Annotated[UploadFile, File(description="JPEG, PNG, WebP, GIF, AVIF, BMP or TIFF, at most 4 MB.")],
) -> User:
    """It becomes a JPEG of 128×128: its middle, upright, over white, without metadata; of an animated one the first frame."""
    return users.view(avatars.replace(user, avatar_file.content))
