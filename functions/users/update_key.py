"""PUT /users/me/keys/{key_id}: another name, limit, expiry or list of models for an API key, or a pause."""

from aideer.accounts import api_keys
from aideer.schemas.api_keys import ApiKeyChange, ApiKeyResponse, KeyId
from aideer.security.callers import Visitor
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.put("/api/v1/users/me/keys/<key_id>", **describe("Change one's API key", errors=(404, 429)))
def update_key(user: Visitor, key_id: KeyId, body: ApiKeyChange) -> ApiKeyResponse:
    """Rename or pause your API key, or change what it may do. The next call with it meets the change.

    The credits that the key has spent stay counted: to let it spend 100 credits more, raise its `credit_limit` by 100.
    """
    return api_keys.change(user, key_id, body)
