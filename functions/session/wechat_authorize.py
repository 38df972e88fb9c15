"""GET /api/v1/session/wechat/authorize: redirect to WeChat's page, to sign in to a website."""

from aws_lambda_powertools.event_handler import Response

from aideer.accounts import wechat_login
from aideer.accounts.wechat_login import FromBrowser
from aideer.schemas.sessions import Challenge, ChallengeMethod
from aideer.web.http import app, handler
from aideer.web.openapi import NO_STORE, describe

__all__ = ["handler"]


@app.get(
    "/api/v1/session/wechat/authorize",
    **describe(
        "Go to WeChat's page to sign in",
        errors=(400, 503),
        public=True,
        also={302: "To WeChat's page, with a cookie that must come back to the callback with the state."},
        done=False,
    ),
)
def authorize(
    browser: FromBrowser, code_challenge: Challenge = None, code_challenge_method: ChallengeMethod = None
) -> Response[None]:
    """For browsers: the sign-in must end, within ten minutes, in the browser in which it began.

    If your page receives the ticket, send the challenge of a random verifier here, and keep the verifier for the exchange (PKCE).
    """
    location, cookie = wechat_login.begin(browser, code_challenge, code_challenge_method)
    return Response(status_code=302, headers={"Location": location, **NO_STORE}, cookies=[cookie])
