"""Images in messages. A message holds an address, and the provider fetches it. This module and the code that it calls open none.

Every address that is stored and sent on is an https address of a public name, in the characters of RFC 3986. No two parsers can
read it differently. So it is never a file of this machine (the SDK would upload one). As far as a name can tell, it is also never
a machine in a private network. The provider connects to the address, so the provider must judge what the name resolves to.
"""

import re
from collections.abc import Iterable
from typing import Any

from aideer.billing import pricing
from aideer.core.errors import Detail, Unprocessable

LONGEST = 2048
_ADDRESS = re.compile(
    r"https://"
    # The last label begins with a letter, so the host is no IP address in any notation.
    r"(?P<host>(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9]))"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?:[/?](?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?"
    r"(?:#(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?",
    re.ASCII | re.IGNORECASE,
)
_INSIDE = {
    "localhost",
    "localdomain",
    "local",
    "internal",
    "intranet",
    "private",
    "corp",
    "home",
    "lan",
    "arpa",
    "onion",
}
"""Last labels that no public name has (RFC 6761, RFC 6762, ICANN's list of name collisions)."""


def check(role: str, address: str) -> None:
    """Raise Unprocessable unless this may be stored as a user's image."""
    if role != "user":
        raise Unprocessable("image_not_users", "Only messages with the role user can be images.")
    match = _ADDRESS.fullmatch(address) if len(address) <= LONGEST and address.startswith("https://") else None
    if match and match["host"].lower().rpartition(".")[2] not in _INSIDE and int(match["port"] or 443) <= 65535:
        return
    raise Unprocessable(
        "invalid_image_url",
        Detail(
            "An image needs a public https:// URL in ASCII: at most {most} characters, a domain name, no user name.",
            most=LONGEST,
        ),
    )


def require_vision(parameters: dict[str, Any]) -> None:
    """Raise Unprocessable if the model of these parameters takes no images."""
    tariff = pricing.get_tariff(parameters["model"])
    if tariff is None or not tariff["vision"]:
        raise Unprocessable("model_without_vision", "The preset's model takes no images.")


def to_parts(messages: Iterable[tuple[str, str, str]]) -> list[dict[str, Any]]:
    """Return messages as DashScope takes them, {role, content}, from (role, type, content).

    An image and the messages of the same role right before and after it become one message of parts. Models are trained on turns.
    """
    said: list[dict[str, Any]] = []
    for role, kind, content in messages:
        before = said[-1] if said and said[-1]["role"] == role else None
        if kind == "image" and before:
            said[-1] = {"role": role, "content": [*_to_list(before["content"]), {"image": content}]}
        elif kind == "image":
            said.append({"role": role, "content": [{"image": content}]})
        elif before and isinstance(before["content"], list):
            before["content"].append({"text": content})
        else:
            said.append({"role": role, "content": content})
    return said


def _to_list(content: str | list[dict[str, str]]) -> list[dict[str, str]]:
    return [{"text": content}] if isinstance(content, str) else content
