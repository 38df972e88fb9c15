"""POST /api/v1/session/oauth2/token: sign in by name and password (RFC 6749, section 4.3)."""

from typing import Annotated, Literal

from aws_lambda_powertools.event_handler.openapi.params import Form

from aideer import sessions
from aideer.contract.sessions import Tokens
from aideer.http import app, handler
from aideer.responses import documented
from aideer.throttling import Address

__all__ = ["handler"]


@app.post("/api/v1/session/oauth2/token", **documented("Sign in", errors=(401, 429, 503), public=True))
def create(
    grant_type: Annotated[Literal["password"], Form()],  # noqa: ARG001 - to be named is all it is for
    username: Annotated[str, Form(max_length=255)],
    password: Annotated[str, Form(max_length=255)],
    address: Address,
) -> Tokens:
    return sessions.sign_in(username, password, address)
