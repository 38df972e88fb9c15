"""The search of users by the beginning of their names, in capital or small letters.

An index sorts names by their code points, so "Anna", "ANNA" and "anna" are far apart in it. A search reads the index from the
first spelling of the text on. At a name that begins with no spelling, it goes on at the next spelling that can follow. So it
reads a few ranges, whatever the table holds, and the items need no second form of their names.
"""

import heapq
import unicodedata
from operator import attrgetter
from typing import NamedTuple

from aideer.accounts import users
from aideer.core.errors import Unprocessable
from aideer.data.models import User
from aideer.schemas.users import UserResponse
from aideer.web import pagination

SEEKS = 16
"""The most ranges that one page reads. Each takes one query of each shard. The next page goes on."""
_LONGEST_KEY = 1024  # DynamoDB's limit for a range key, in bytes
_LAST = "\U0010ffff"
"""The last character. A name that begins with a text is between the text and the text with this character."""


class Spellings(NamedTuple):
    """The spellings of a text: for each of its characters, its forms in both cases, in order."""

    forms: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, text: str) -> "Spellings":
        """Return the spellings of a text. A form of several characters, such as the SS of ß, is none."""
        return cls(
            tuple(tuple(sorted({c, *(form for form in (c.lower(), c.upper()) if len(form) == 1)})) for c in text)
        )

    @property
    def first(self) -> str:
        """The first spelling."""
        return "".join(forms[0] for forms in self.forms)

    @property
    def end(self) -> str:
        """A text behind all names that begin with a spelling."""
        return "".join(forms[-1] for forms in self.forms) + _LAST

    def begin(self, name: str) -> bool:
        """Return whether a name begins with a spelling."""
        return self._count_shared(name) == len(self.forms)

    def find_next(self, name: str) -> str | None:
        """Return the first spelling behind a name, or None. If the name begins with a spelling, return the one behind that."""
        for at in range(min(self._count_shared(name), len(self.forms) - 1), -1, -1):
            for form in self.forms[at]:
                if name[at : at + 1] < form:
                    return name[:at] + form + "".join(forms[0] for forms in self.forms[at + 1 :])
        return None

    def _count_shared(self, name: str) -> int:
        """Return the length of the longest beginning of a name that a spelling has too."""
        for at, forms in enumerate(self.forms):
            if name[at : at + 1] not in forms:
                return at
        return len(self.forms)


def search(text: str, limit: int, cursor: str | None, offset: int) -> tuple[list[UserResponse], str | None]:
    """Return a page of the users whose names begin with a text, by name, and the cursor of the next page.

    The first user of the first page is the one that has this name in any of its spellings (users.py). A page may be shorter than
    `limit` although there are more. Raises Unprocessable.
    """
    if offset:
        raise Unprocessable("offset_with_filter", "With a filter, go on by the cursor of the page before.")
    if not text:
        return [], None
    list_name = f"users like {text}"
    spellings = Spellings.of(unicodedata.normalize("NFC", text))  # as names are stored
    after = spellings.first if cursor is None else str(pagination.decode(list_name, cursor, (str,))[0])
    if not spellings.first <= after <= spellings.end or len(after.encode()) > _LONGEST_KEY:
        raise Unprocessable("invalid_cursor", "This cursor is not from this list.")
    named = users.find_by_name(text) if cursor is None else []
    room = limit - len(named)
    keys, seen = _read_keys(spellings, users.password_key(text), after, room + 1)
    shown = keys[:room]
    wanted = {key.id for key in shown}
    found = {user.id: user for user in User.batch_get(wanted, consistent_read=True)} if wanted else {}
    listed = [users.to_response(found[key.id]) for key in shown if key.id in found and not found[key.id].deleted]
    if len(keys) > room:
        seen = shown[-1].username if shown else after
    return named + listed, pagination.encode(list_name, [seen]) if seen else None


def _read_keys(spellings: Spellings, own: str, after: str, most: int) -> tuple[list[User], str | None]:
    """Return the keys of at most `most` users whose names come behind `after`, without the one whose password key is `own`.

    If SEEKS ranges did not suffice, return the last name that was read, too.
    """
    keys: list[User] = []
    begin: str | None = after if spellings.begin(after) else spellings.find_next(after)
    for _ in range(SEEKS):
        if begin is None:
            return keys, None
        between = User.username.between(begin, spellings.end)
        limit = most - len(keys) + 2  # the names `after` and `own` do not count
        shards = [User.by_username.query(str(shard), between, limit=limit) for shard in range(User.LIST_SHARDS)]
        begin = None
        for key in heapq.merge(*shards, key=attrgetter("username")):
            if not spellings.begin(key.username):
                after, begin = key.username, spellings.find_next(key.username)
                break
            if key.username != after and users.password_key(key.username) != own:
                keys.append(key)
            if len(keys) == most:
                return keys, None
    return keys, None if begin is None else after
