"""Tokens, and what a refresh may be sent."""

from typing import Annotated, Literal

from aws_lambda_powertools.event_handler.openapi.params import Query
from pydantic import BaseModel, StringConstraints

from aideer.contract.strings import Body

Code = Annotated[str, Query(min_length=1, max_length=256, description="What WeChat gave: good once, for some minutes.")]
ReturnedCode = Annotated[str | None, Query(max_length=256, description="What WeChat gave; none where it was declined.")]
State = Annotated[str, Query(max_length=256, description="What `authorize` sent along.")]


class Tokens(BaseModel):
    """A pair of tokens. `expires_in` is the access token's life in seconds; the refresh token lives 90 days."""

    access_token: str
    refresh_token: str
    token_type: Literal["bearer"]
    expires_in: int


class Ticket(Body):
    """What a website login hands over in place of a refresh token."""

    ticket: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None
