"""GET /api/v1/users/{id}/avatar: a user's avatar image."""

from aideer.accounts import avatars
from aideer.data import lookup
from aideer.schemas.users import AvatarVersion, UserId
from aideer.security.callers import Visitor
from aideer.web.conditional_requests import IfNoneMatch
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]

_ANSWERS = describe(
    "Get a user's picture",
    errors=(404,),
    content=avatars.ANSWER,
    headers=avatars.HEADERS,
    also={304: "The caller has it."},
)


@app.get("/api/v1/users/<id>/avatar", **_ANSWERS)
def get_avatar_of(  # type: ignore[no-untyped-def] # no annotation: the body is an image
    id: UserId, _: Visitor, v: AvatarVersion = None, if_none_match: IfNoneMatch = None
):
    """A JPEG of 128×128 pixels. All users without an avatar image have the same one."""
    return avatars.get_image(lookup.get_user(id), v, if_none_match)
