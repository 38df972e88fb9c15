"""DELETE /users/{id}/keys/{key_id}: revoke an API key."""

from aideer.accounts import api_keys
from aideer.schemas.api_keys import KeyId
from aideer.schemas.users import DoneResponse, NamedUser
from aideer.security.callers import Visitor
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.delete("/api/v1/users/<id>/keys/<key_id>", **describe("Revoke an API key", errors=(403, 404)))
def delete_key(user: Visitor, id: NamedUser, key_id: KeyId) -> DoneResponse:
    """Revoke your API key: it is refused from now on. Answers that it has begun go on, and are billed.

    Administrators can revoke the key of any user.
    """
    api_keys.revoke(user, id, key_id)
    return DoneResponse(message="Revoked.")
