"""DELETE /api/v1/codes/{code}: revoke a code. Its remaining uses cannot be redeemed any more."""

from aideer import codes
from aideer.auth import Admin
from aideer.contract.users import Done
from aideer.http import app, handler
from aideer.responses import documented

__all__ = ["handler"]


@app.delete("/api/v1/codes/<code>", **documented("Revoke a redeem code", errors=(403, 404)))
def delete(admin: Admin, code: str) -> Done:
    codes.revoke(admin, code)
    return Done(message="Revoked.")
