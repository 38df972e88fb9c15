"""The name of a user that other users see. It is the nickname, and never the name to sign in with.

The nickname of a user that chose none is the username. Strangers could then guess passwords for it, so they see another name. It
comes from the user's id, which they see anyway.
"""

import hashlib
import unicodedata

from aideer.data.models import User


def get_public_name(user: User) -> str:
    """Return the user's nickname, or a neutral name if the nickname is a spelling of the username."""
    if user.username is None or _fold(user.nickname) != _fold(user.username):
        return str(user.nickname)
    return f"user-{hashlib.sha256(user.id.encode()).hexdigest()[:8]}"


def _fold(name: str) -> str:
    """Return a name in the form in which all its spellings are the same (as users.password_key)."""
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).split())
