"""POST /api/v1/session/oauth2/token: tokens for a name and a password, or for a refresh token (RFC 6749, sections 4.3 and 6)."""

from typing import Annotated

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Form

from aideer.accounts import oauth2
from aideer.schemas.sessions import DEVICE, TokensResponse
from aideer.schemas.strings import DeviceName, Password
from aideer.security.callers import Address, Agent
from aideer.web.http import app, handler
from aideer.web.openapi import NO_STORE, describe

__all__ = ["handler"]


@app.post(
    "/api/v1/session/oauth2/token",
    **describe("Sign in", errors=(400, 429, 502, 503), public=True, error="OAuthError"),
)
def create(
    grant_type: Annotated[oauth2.GrantType, Form()],
    address: Address,
    agent: Agent,
    username: Annotated[str | None, Form(max_length=255, description="For grant_type=password.")] = None,
    password: Annotated[Password | None, Form(description="For grant_type=password.")] = None,
    refresh_token: Annotated[str | None, Form(max_length=4096, description="For grant_type=refresh_token.")] = None,
    device: Annotated[DeviceName | None, Form(description=DEVICE)] = None,
) -> Response[TokensResponse]:
    """The token endpoint of OAuth2. Each refusal also has `error` and `error_description` (RFC 6749, section 5.2)."""
    tokens = oauth2.issue_tokens(grant_type, username, password, refresh_token, address, device or agent)
    return Response(status_code=200, content_type="application/json", body=tokens, headers=NO_STORE)
