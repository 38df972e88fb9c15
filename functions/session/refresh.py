"""POST /api/v1/session/refresh: go on with a refresh token in place of the access token."""

from aideer import sessions
from aideer.contract.sessions import Ticket, Tokens
from aideer.errors import Unprocessable
from aideer.http import app, handler
from aideer.responses import documented
from aideer.sessions import RefreshClaims

__all__ = ["handler"]


@app.post("/api/v1/session/refresh", **documented("Refresh a session, by its refresh token"))
def refresh(claims: RefreshClaims, body: Ticket | None = None) -> Tokens:
    if body and body.ticket is not None:
        raise Unprocessable("not_supported", "Tickets are not supported yet.")
    return sessions.refresh(claims)
