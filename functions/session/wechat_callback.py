"""GET /api/v1/session/wechat/callback: return from WeChat's page with tokens or a ticket."""

from aws_lambda_powertools.event_handler import Response

from aideer.accounts import wechat_login
from aideer.accounts.wechat_login import FromBrowser
from aideer.schemas.sessions import ReturnedCode, State, TokensResponse
from aideer.security.callers import Address, Agent
from aideer.web.http import app, handler
from aideer.web.openapi import NO_STORE, describe

__all__ = ["handler"]


@app.get(
    "/api/v1/session/wechat/callback",
    **describe(
        "Come back from WeChat's page",
        errors=(401, 403, 429, 502, 503),
        public=True,
        also={
            303: "To the page that is set up for it, with `ticket` in the fragment: for POST /session/refresh. A refusal goes "
            "to this page too, with its code as `error`."
        },
    ),
)
def callback(
    browser: FromBrowser, address: Address, agent: Agent, state: State, code: ReturnedCode = None
) -> Response[TokensResponse]:
    """A first sign-in registers the user. If a mini program already has a user with the same unionid, it is the same user."""
    tokens = wechat_login.finish(browser, code, state, address, agent)
    return Response(status_code=200, content_type="application/json", body=tokens, headers=NO_STORE)
