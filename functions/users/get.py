"""GET /api/v1/users/{id}: a user."""

from aideer.accounts import users
from aideer.schemas.users import PublicUserResponse, UserId, UserResponse
from aideer.security.callers import Visitor
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.get("/api/v1/users/<id>", **describe("Get a user", errors=(404,)))
def get(user: Visitor, id: UserId) -> UserResponse | PublicUserResponse:
    """Get a user. You see all fields of yourself; only administrators see all fields of other users."""
    return users.get(user, id)
