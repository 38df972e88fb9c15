"""GET /api/v1/codes/{code}: a redeem code, as administrators see it."""

from aideer.billing import redeem_codes
from aideer.schemas.credits import RedeemCodeResponse
from aideer.security.callers import Admin
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.get("/api/v1/codes/<code>", **describe("Get a redeem code", errors=(403, 404)))
def get(user: Admin, code: str) -> RedeemCodeResponse:
    return redeem_codes.get(user, code)
