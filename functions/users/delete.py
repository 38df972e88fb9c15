"""DELETE /api/v1/users/{id}: delete a user and all data of that user."""

from aideer.accounts import deletion, freshness, users
from aideer.schemas.users import Confirmation, DoneResponse, NamedUser
from aideer.security.callers import AuthTime, Visitor
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.delete("/api/v1/users/<id>", **describe("Delete a user", errors=(403, 404, 409, 429)))
def delete(user: Visitor, auth_time: AuthTime, id: NamedUser, body: Confirmation | None = None) -> DoneResponse:
    """Delete yourself (`me` or your own id), or any user if you are an administrator. The user cannot sign in any more.

    The user's data is removed within minutes.

    You need a sign-in within ten minutes, or you send your password. Without both, the answer is 403 `fresh_sign_in_required`.
    """
    freshness.require(user, auth_time, body.current_password if body else None)
    deletion.delete(user, users.resolve_id(user, id))
    return DoneResponse(message="Deleted.")
