"""Tokens, and what a refresh may be sent."""

from typing import Literal

from pydantic import BaseModel

from aideer.contract.strings import Body


class Tokens(BaseModel):
    """A pair of tokens. `expires_in` is the access token's life in seconds; the refresh token lives 90 days."""

    access_token: str
    refresh_token: str
    token_type: Literal["bearer"]
    expires_in: int


class Ticket(Body):
    """What a website login hands over in place of a refresh token."""

    ticket: str | None = None
