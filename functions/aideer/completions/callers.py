"""Who asks for completions: the holder of an API key, or of an access token."""

import asyncio
from typing import Any

from pynamodb.expressions.condition import Condition

from aideer.core import aws, settings
from aideer.core.errors import InvalidToken
from aideer.core.logs import logger
from aideer.data import lookup
from aideer.data.models import User
from aideer.security import api_keys, auth
from aideer.security.api_keys import PREFIX, UNLIMITED, ApiKey
from aideer.security.auth import Bearer


class Caller:
    """A caller whose key or token is good. Its user has not been read yet: the hold's conditions check it, or `read`."""

    def __init__(self, user_id: str, key: ApiKey | None = None, bearer: Bearer | None = None) -> None:
        self.user_id = user_id
        self.key = key
        self._bearer = bearer

    @property
    def session(self) -> Condition | None:
        """The condition that the token is still good. A key has none."""
        if self._bearer is None:
            return None
        return auth.require_session(self._bearer.token_version, self._bearer.session_id)

    @property
    def room(self) -> int:
        """The credits that the key may still hold, as it was read."""
        return self.key.room if self.key else UNLIMITED

    @property
    def scope(self) -> str:
        """The part of a user's requests that a retry can repeat: those by the same key, or those by tokens."""
        return f"{self.user_id}#{self.key.id if self.key else 'session'}"

    def allows(self, model: str) -> bool:
        """Return whether the caller may ask this model."""
        return self.key is None or self.key.allows(model)

    def read(self, *, visitors: bool = False) -> User:
        """Return the user, and take the key, as they are stored now.

        Raises InvalidToken if the key or the token is good no more, and Forbidden for a visitor unless `visitors` may do this.
        """
        if self._bearer:
            return self._bearer.read()
        if self.key:
            self.key = api_keys.read(self.key.hash)
        user = lookup.find(User, self.user_id)
        if user is None or user.deleted:
            raise InvalidToken("invalid_api_key", "This API key does not exist, or was revoked.")
        return user if visitors else auth.require_member(user)


async def authenticate(authorization: str | None) -> Caller:
    """Return the caller of an Authorization header. Raises Unauthorized and InvalidToken."""
    token = auth.read_bearer(authorization)
    if token.startswith(PREFIX):
        key = await asyncio.to_thread(api_keys.find, token)
        logger.thread_safe_append_keys(user_id=key.user_id, key_id=key.id)
        return Caller(key.user_id, key)
    claims: dict[str, Any] = await aws.run_with_secret(
        settings.SIGNING_SECRET_ARN, auth.verify_access_token, authorization
    )
    bearer = Bearer(claims)
    return Caller(bearer.id, bearer=bearer)
