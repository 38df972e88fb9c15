"""GET /api/v1/codes/{code}: a redeem code, as administrators see it."""

from aideer import codes
from aideer.auth import Admin
from aideer.contract.credits import RedeemCode
from aideer.http import app, handler
from aideer.responses import documented

__all__ = ["handler"]


@app.get("/api/v1/codes/<code>", **documented("Get a redeem code", errors=(403, 404)))
def get(user: Admin, code: str) -> RedeemCode:
    return codes.get(user, code)
