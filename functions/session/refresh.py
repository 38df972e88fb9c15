"""POST /api/v1/session/refresh: go on with a refresh token, or begin with a website's ticket, in place of the access token."""

from aideer import sessions, tickets
from aideer.contract.sessions import Ticket, Tokens
from aideer.http import app, handler
from aideer.responses import documented
from aideer.sessions import Authorization

__all__ = ["handler"]


@app.post("/api/v1/session/refresh", **documented("Refresh a session, by its refresh token or a ticket"))
def refresh(authorization: Authorization, body: Ticket | None = None) -> Tokens:
    """The Bearer is the refresh token. With a ticket in the body none is needed, and none is looked at."""
    if body and body.ticket:
        return tickets.exchange(body.ticket)
    return sessions.refresh(sessions.refresh_claims(authorization))
