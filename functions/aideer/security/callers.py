"""The callers of an endpoint, as types of a handler's arguments.

    def get(user: Visitor, address: Address) -> ...

A handler that takes one of these is called only if the caller may call it. They are apart from auth.py, because the function of the
streams, which has no resolver, then loads no part of it.
"""

from typing import Annotated, Any
from urllib.parse import unquote

from aws_lambda_powertools.event_handler import Depends, Request

from aideer.data.models import User
from aideer.security import auth, rate_limits
from aideer.security.auth import Bearer
from aideer.web import origin, user_agents

REASON_CHARACTERS = 200


def read_auth_time(request: Request) -> int | None:
    """Dependency: return when the caller signed in, in seconds since the epoch, or None if the token does not say."""
    said: int | None = auth.verify_access_token(request.resolved_event.headers.get("authorization")).get("auth_time")
    return said


def require_visitor(request: Request) -> User:
    """Dependency: return the user of the access token. Visitors are allowed."""
    headers = request.resolved_event.headers
    user = auth.get_holder(auth.verify_access_token(headers.get("authorization")))
    user.reason = _reason(headers.get("x-reason"))
    return user


def _reason(header: str | None) -> str | None:
    """Return the text of X-Reason on one line, cut to REASON_CHARACTERS, or None if it is empty.

    The header may be percent-encoded UTF-8.
    """
    text = unquote(header or "", errors="replace")
    return "".join(c if c.isprintable() else " " for c in text).strip()[:REASON_CHARACTERS] or None


Visitor = Annotated[User, Depends(require_visitor)]


def require_member(user: Visitor) -> User:
    """Dependency: return the caller. Raises Forbidden for a visitor."""
    return auth.require_member(user)


def require_admin(user: Visitor) -> User:
    """Dependency: return the caller. Raises Forbidden unless the caller is an administrator."""
    return auth.require_admin(user)


def require_bearer(request: Request) -> Bearer:
    """Dependency: return the holder of the access token, without reading the user."""
    return Bearer(auth.verify_access_token(request.resolved_event.headers.get("authorization")))


def read_address(request: Request) -> str:
    """Dependency: return the address of the request, in the form in which it is counted.

    It is the address that API Gateway saw, or that CloudFront names. The caller can write anything into X-Forwarded-For.
    """
    event: Any = request.resolved_event
    return rate_limits.normalize_address(origin.viewer_address(event.headers, event.request_context.http.source_ip))


def read_agent(request: Request) -> str | None:
    """Dependency: return what User-Agent says about the device, in short, or None."""
    return user_agents.describe(request.resolved_event.headers.get("user-agent"))


Member = Annotated[User, Depends(require_member)]
Admin = Annotated[User, Depends(require_admin)]
Unread = Annotated[Bearer, Depends(require_bearer)]
AuthTime = Annotated[int | None, Depends(read_auth_time)]
Address = Annotated[str, Depends(read_address)]
Agent = Annotated[str | None, Depends(read_agent)]
