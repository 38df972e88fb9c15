"""POST /api/v1/users/me/identities/password: sign in with a name and a password too, from now on."""

from aideer import freshness, linking
from aideer.auth import AuthTime, Visitor
from aideer.contract.users import NamedPassword, User
from aideer.http import app, handler
from aideer.responses import documented

__all__ = ["handler"]


@app.post(
    "/api/v1/users/me/identities/password", **documented("Link a name and a password", errors=(400, 403, 409, 429))
)
def link_password(user: Visitor, auth_time: AuthTime, body: NamedPassword) -> User:
    """Sign in with a name and a password too. It needs a sign-in within ten minutes: 403 `fresh_sign_in_required`."""
    freshness.require(user, auth_time)
    return linking.password(user, body.username, body.password)
