"""PUT /api/v1/users/{id}: change a user."""

from aideer.accounts import freshness, users
from aideer.schemas.users import NamedUser, UserChange, UserResponse
from aideer.security.callers import AuthTime, Visitor
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.put("/api/v1/users/<id>", **describe("Change a user", errors=(400, 403, 404, 429)))
def update(user: Visitor, auth_time: AuthTime, id: NamedUser, body: UserChange) -> UserResponse:
    """Change yourself (`me` or your own id), or any user if you are an administrator.

    If you change a username, sign in with the new one from then on. To change a username or a permission, you need a sign-in within
    ten minutes, or you send your password. Without both, the answer is 403 `fresh_sign_in_required`.
    """
    target_id = users.resolve_id(user, id)
    freshness.require_for_change(user, auth_time, target_id, body)
    return users.change(user, target_id, body)
