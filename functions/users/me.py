"""GET /api/v1/users/me: the signed-in user."""

from aideer.accounts import users
from aideer.schemas.users import UserResponse
from aideer.security.callers import Visitor
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.get("/api/v1/users/me", **describe("Get oneself"))
def me(user: Visitor) -> UserResponse:
    return users.to_response(user)
