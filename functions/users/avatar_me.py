"""GET /api/v1/users/me/avatar: your own avatar image."""

from aideer.accounts import avatars
from aideer.schemas.users import AvatarVersion
from aideer.security.callers import Visitor
from aideer.web.conditional_requests import IfNoneMatch
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]

_ANSWERS = describe(
    "Get one's picture", content=avatars.ANSWER, headers=avatars.HEADERS, also={304: "The caller has it."}
)


@app.get("/api/v1/users/me/avatar", **_ANSWERS)
def get_avatar(  # type: ignore[no-untyped-def] # no annotation: the body is an image
    user: Visitor, v: AvatarVersion = None, if_none_match: IfNoneMatch = None
):
    """A JPEG of 128×128 pixels. All users without an avatar image have the same one."""
    return avatars.get_image(user, v, if_none_match)
