"""POST /api/v1/session/refresh: go on with a refresh token, or begin with a website's ticket, in place of the access token."""

from aws_lambda_powertools.event_handler import Response

from aideer import sessions, tickets
from aideer.contract.sessions import Ticket, Tokens
from aideer.http import app, handler
from aideer.responses import NO_STORE, documented
from aideer.sessions import Authorization

__all__ = ["handler"]


@app.post("/api/v1/session/refresh", **documented("Refresh a session, by its refresh token or a ticket"))
def refresh(authorization: Authorization, body: Ticket | None = None) -> Response[Tokens]:
    """The Bearer is the refresh token. With a ticket in the body none is needed, and none is looked at."""
    if body and body.ticket:
        tokens = tickets.exchange(body.ticket, body.code_verifier)
    else:
        tokens = sessions.refresh(sessions.refresh_claims(authorization))
    return Response(status_code=200, content_type="application/json", body=tokens, headers=NO_STORE)
