"""POST /api/v1/users/me/identities/wechat: add a WeChat account to sign in with."""

from aideer.accounts import freshness, linking
from aideer.schemas.users import UserResponse, WechatCode
from aideer.security.callers import AuthTime, Visitor
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.post(
    "/api/v1/users/me/identities/wechat", **describe("Link one's WeChat account", errors=(400, 403, 409, 429, 502))
)
def link_wechat(user: Visitor, auth_time: AuthTime, body: WechatCode) -> UserResponse:
    """Add your WeChat account to sign in with. If a WeChat sign-in made a user for it that was never used, your user absorbs that
    one.

    You need a sign-in within ten minutes, or you send your password. Without both, the answer is 403 `fresh_sign_in_required`.
    """
    freshness.require(user, auth_time, body.current_password)
    return linking.link_wechat(user, body.code)
