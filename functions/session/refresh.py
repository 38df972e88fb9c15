"""POST /api/v1/session/refresh: new tokens for a refresh token, sent in place of the access token, or for a website's ticket."""

from aws_lambda_powertools.event_handler import Response

from aideer.accounts import login_tickets, sessions
from aideer.accounts.sessions import Authorization
from aideer.schemas.sessions import LoginTicket, TokensResponse
from aideer.security.callers import Agent
from aideer.web.http import app, handler
from aideer.web.openapi import NO_STORE, describe

__all__ = ["handler"]


@app.post("/api/v1/session/refresh", **describe("Refresh a session, by its refresh token or a ticket"))
def refresh(authorization: Authorization, agent: Agent, body: LoginTicket | None = None) -> Response[TokensResponse]:
    """Send the refresh token as the Bearer. With a ticket in the body, no refresh token is needed, and a given one is ignored."""
    device = (body and body.device) or agent
    if body and body.ticket:
        tokens = login_tickets.exchange(body.ticket, body.code_verifier, device)
    else:
        tokens = sessions.refresh(sessions.verify_refresh_token(authorization), device)
    return Response(status_code=200, content_type="application/json", body=tokens, headers=NO_STORE)
