"""How a request came here: through the domain's CloudFront, or by an address of AWS's.

CloudFront adds two headers. One has a secret, which nobody else knows. The other has the viewer's address. The address counts only
beside the secret, because any caller can send both headers. Behind a firewall, a request without the secret is refused, or the
caller could pass the firewall by.
"""

import hmac
from collections.abc import Mapping

from aideer.core import settings
from aideer.core.errors import Forbidden

SECRET_HEADER = "x-aideer-origin"  # noqa: S105 - its name
ADDRESS_HEADER = "x-aideer-address"

_called = ""


def came_through_domain(headers: Mapping[str, str]) -> bool:
    """Return whether CloudFront has sent this request. The names of `headers` are in lower case.

    During a rotation there are two secrets, and either is right.
    """
    sent = headers.get(SECRET_HEADER, "").encode()
    matches = [hmac.compare_digest(sent, secret.encode()) for secret in settings.ORIGIN_SECRETS]
    return any(matches)  # of all: the time must not tell which of the secrets was right


def require_domain(headers: Mapping[str, str]) -> None:
    """Raise Forbidden if a firewall stands before the domain, and the request has passed it by."""
    if settings.DOMAIN_REQUIRED and not came_through_domain(headers):
        raise Forbidden("domain_required", "Call this API through its own domain.")


def viewer_address(headers: Mapping[str, str], seen: str) -> str:
    """Return the address of the viewer: `seen`, which AWS has seen, or the one that CloudFront names.

    The result is for rate_limits.normalize_address, which counts everything that is no address as one caller.
    """
    return headers.get(ADDRESS_HEADER, "") if came_through_domain(headers) else seen


def remember_called(domain: str) -> None:
    """Note the domain under which API Gateway was called, for the requests that have no configured domain."""
    global _called  # a process answers one request at a time
    _called = domain


def base_url(configured: str) -> str:
    """Return the origin of an absolute address: the configured one, or the one under which this request came."""
    return configured or (f"https://{_called}" if _called else "")
