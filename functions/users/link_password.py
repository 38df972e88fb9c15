"""POST /api/v1/users/me/identities/password: add a name and a password to sign in with."""

from aideer.accounts import freshness, linking
from aideer.schemas.users import NamedPassword, UserResponse
from aideer.security.callers import AuthTime, Visitor
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.post("/api/v1/users/me/identities/password", **describe("Link a name and a password", errors=(400, 403, 409, 429)))
def link_password(user: Visitor, auth_time: AuthTime, body: NamedPassword) -> UserResponse:
    """Add a username and a password to sign in with.

    You need a sign-in within ten minutes. Without it, the answer is 403 `fresh_sign_in_required`.
    """
    freshness.require(user, auth_time)
    return linking.link_password(user, body.username, body.password)
