"""PUT /api/v1/users/{id}: change a user."""

from aideer import users
from aideer.auth import Visitor
from aideer.contract.users import NamedUser, User, UserChange
from aideer.http import app, handler
from aideer.responses import documented

__all__ = ["handler"]


@app.put("/api/v1/users/<id>", **documented("Change a user", errors=(403, 404)))
def update(user: Visitor, id: NamedUser, body: UserChange) -> User:
    """Change oneself, or, as an administrator, anybody. A new username is the one to sign in with from then on."""
    return users.change(user, users.target_id(user, id), body)
