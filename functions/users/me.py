"""GET /api/v1/users/me: the signed-in user."""

from aideer import users
from aideer.auth import Visitor
from aideer.contract.users import User
from aideer.http import app, handler
from aideer.responses import documented

__all__ = ["handler"]


@app.get("/api/v1/users/me", **documented("Get oneself"))
def me(user: Visitor) -> User:
    return users.view(user)
