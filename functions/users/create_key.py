"""POST /users/me/keys: an API key, by which other programs ask models for you."""

from aideer.accounts import api_keys, freshness
from aideer.schemas.api_keys import NewApiKey, NewApiKeyResponse
from aideer.security.callers import AuthTime, Member
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.post("/api/v1/users/me/keys", **describe("Make an API key", errors=(403, 409, 429)))
def create_key(user: Member, auth_time: AuthTime, body: NewApiKey) -> NewApiKeyResponse:
    """Make an API key, with which a program asks models and spends your credits. Only this response has its `key`, so keep it.

    You can limit its models, its credits and its time. You can have 50 keys.

    You need a sign-in within ten minutes, or you send your password. Without both, the answer is 403 `fresh_sign_in_required`.
    """
    freshness.require(user, auth_time, body.current_password)
    return api_keys.create(user, body)
