"""GET /api/v1/users/{id}: a user."""

from aideer import users
from aideer.auth import Visitor
from aideer.contract.users import PublicUser, User, UserId
from aideer.http import app, handler
from aideer.responses import documented

__all__ = ["handler"]


@app.get("/api/v1/users/<id>", **documented("Get a user", errors=(404,)))
def get(user: Visitor, id: UserId) -> User | PublicUser:
    """Get a user. You see all fields of yourself; only administrators see all fields of other users."""
    return users.shown(user, id)
