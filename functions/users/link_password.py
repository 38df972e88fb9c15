"""POST /api/v1/users/me/identities/password: sign in with a name and a password too, from now on."""

from aideer import linking
from aideer.auth import Visitor
from aideer.contract.users import NamedPassword, User
from aideer.http import app, handler
from aideer.responses import documented

__all__ = ["handler"]


@app.post("/api/v1/users/me/identities/password", **documented("Link a name and a password", errors=(409, 429)))
def link_password(user: Visitor, body: NamedPassword) -> User:
    return linking.password(user, body.username, body.password)
