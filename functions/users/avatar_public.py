"""GET /users/{id}/avatars/{name}: an avatar image by its own address, for `<img>`. It takes no token."""

from aideer.accounts import avatars
from aideer.schemas.users import AvatarName, UserId
from aideer.web.conditional_requests import IfNoneMatch
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]

_ANSWERS = describe(
    "Get a picture by its address",
    errors=(404, 503),
    public=True,
    content=avatars.ANSWER,
    headers=avatars.PUBLIC_HEADERS,
    also={304: "The caller has it."},
)


@app.get("/api/v1/users/<id>/avatars/<name>", **_ANSWERS)
def get_public_avatar(  # type: ignore[no-untyped-def] # no annotation: the body is an image
    id: UserId, name: AvatarName, if_none_match: IfNoneMatch = None
):
    """A JPEG of 128×128 pixels, at the address in `avatar_url`. Any cache may keep it. A new picture has a new address."""
    return avatars.get_public_image(id, name, if_none_match)
