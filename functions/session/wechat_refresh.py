"""GET /api/v1/session/wechat/refresh: new tokens for a WeChat session's refresh token, while WeChat says that it is valid."""

from aws_lambda_powertools.event_handler import Response

from aideer.accounts import wechat_sessions
from aideer.accounts.wechat_sessions import RefreshClaims
from aideer.schemas.sessions import TokensResponse
from aideer.security.callers import Agent
from aideer.web.http import app, handler
from aideer.web.openapi import NO_STORE, describe

__all__ = ["handler"]


@app.get(
    "/api/v1/session/wechat/refresh", **describe("Refresh a WeChat session, by its refresh token", errors=(429, 502))
)
def refresh(claims: RefreshClaims, agent: Agent) -> Response[TokensResponse]:
    """Send the refresh token as the Bearer. After 401 `wechat_session_over`, sign in with a new code."""
    tokens = wechat_sessions.refresh(claims, agent)
    return Response(status_code=200, content_type="application/json", body=tokens, headers=NO_STORE)
