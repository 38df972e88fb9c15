"""User-Agent in short, as the name of a device (RFC 9110, section 10.1.5): "Chrome, Windows".

The name is for the user's own eyes. It decides nothing, because a caller can send any text.
"""

import re

_LONGEST = 50
# The first one that is found counts: a browser also sends the names of those that it is compatible with.
_PROGRAMS = {
    "MicroMessenger/": "WeChat",
    "Edg": "Edge",
    "OPR/": "Opera",
    "SamsungBrowser/": "Samsung Internet",
    "Firefox/": "Firefox",
    "FxiOS/": "Firefox",
    "CriOS/": "Chrome",
    "Chrome/": "Chrome",
    "Safari/": "Safari",
}
_SYSTEMS = {
    "iPhone": "iPhone",
    "iPad": "iPad",
    "HarmonyOS": "HarmonyOS",
    "Android": "Android",
    "Windows": "Windows",
    "CrOS": "ChromeOS",
    "Macintosh": "macOS",
    "Linux": "Linux",
}
_PRODUCT = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def describe(header: str | None) -> str | None:
    """Return the program and the system that a User-Agent names, or None if it names neither."""
    agent = header or ""
    product = _PRODUCT.match(agent)
    program = _find(_PROGRAMS, agent) or (product[0] if product and product[0] != "Mozilla" else None)
    named = ", ".join(filter(None, (program, _find(_SYSTEMS, agent))))
    return named[:_LONGEST] or None


def _find(names: dict[str, str], agent: str) -> str | None:
    return next((name for part, name in names.items() if part in agent), None)
