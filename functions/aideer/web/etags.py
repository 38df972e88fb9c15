"""ETags of responses, and the conditions that a caller sets with them (RFC 9110, section 13.1).

A tag names one version as one kind of reader sees it. So a tag from one reader never confirms the cached copy of another kind of
reader. If the reader may change the resource, the tag is the version alone. If-Match takes only this tag.
"""


class NotModified(Exception):
    """The caller has the current version already. The response is 304."""

    def __init__(self, tag: int | str) -> None:
        self.tag = tag


def tag_headers(tag: int | str) -> dict[str, str | list[str]]:
    """Return the headers of a response with this tag. The response depends on the caller, so no shared cache may keep it."""
    return {"ETag": f'"{tag}"', "Cache-Control": "private, no-cache", "Vary": "Authorization"}


def matches(header: str, tag: int | str) -> bool:
    """Return whether an If-Match or If-None-Match header names this tag. Quotes and weakness do not matter here."""
    named = [name.strip().removeprefix("W/").strip('"') for name in header.split(",")]
    return "*" in named or str(tag) in named
