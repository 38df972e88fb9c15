"""DELETE /api/v1/codes/{code}: revoke a code. Its remaining uses cannot be redeemed any more."""

from aideer.billing import redeem_codes
from aideer.schemas.users import DoneResponse
from aideer.security.callers import Admin
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.delete("/api/v1/codes/<code>", **describe("Revoke a redeem code", errors=(403, 404)))
def delete(admin: Admin, code: str) -> DoneResponse:
    redeem_codes.revoke(admin, code)
    return DoneResponse(message="Revoked.")
