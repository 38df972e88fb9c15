"""GET /api/v1/session/wechat/token: sign in with a mini program's code. A first sign-in registers the user."""

from aws_lambda_powertools.event_handler import Response

from aideer.accounts import wechat_sessions
from aideer.schemas.sessions import Code, Device, TokensResponse
from aideer.security.callers import Address, Agent
from aideer.web.http import app, handler
from aideer.web.openapi import NO_STORE, describe

__all__ = ["handler"]


@app.get(
    "/api/v1/session/wechat/token",
    **describe("Sign in from a mini program", errors=(401, 403, 429, 502, 503), public=True),
)
def token(code: Code, address: Address, agent: Agent, device: Device = None) -> Response[TokensResponse]:
    """`code` is the result of `wx.login`. A first sign-in registers the user."""
    tokens = wechat_sessions.sign_in(code, address, device or agent)
    return Response(status_code=200, content_type="application/json", body=tokens, headers=NO_STORE)
