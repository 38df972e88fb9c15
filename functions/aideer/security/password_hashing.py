"""Password hashes: argon2id with OWASP's parameters (Password Storage Cheat Sheet: 19 MiB, 2 passes, 1 lane).

A password is prepared by RFC 8265 (section 4.2.2, OpaqueString) before it is hashed. So two keyboards that encode the same text
differently give the same password. Release 0.1 hashed the raw text. Such a hash still verifies, and the next sign-in replaces it.
"""

import functools
import gzip
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from aideer.core.errors import Unprocessable

if TYPE_CHECKING:  # imported at the first hash: most functions that read users never handle a password
    from argon2 import PasswordHasher

# A hash of no password. Making it at the first use would take time, and so reveal that no user has that name.
_NOBODYS = "$argon2id$v=19$m=19456,t=2,p=1$UWL4ZSuq498sKLxD0wu1PA$fdyCXtWckodShRFEndV03hez0Rr5bpuTJofS2r7LXow"
_COMMON = Path(__file__).with_name("tables") / "common_passwords.txt.gz"


def normalize(password: str) -> str:
    """Return a password in the form that is hashed: in NFC, with every space character as a plain space."""
    spaced = "".join(" " if unicodedata.category(c) == "Zs" else c for c in password)
    return unicodedata.normalize("NFC", spaced)


def require_good(password: str) -> None:
    """Raise Unprocessable if a new password is a common one, or has characters that a keyboard may not be able to repeat.

    The operator's own administrator is exempt: operations/make_admin does not call this.
    """
    if not _is_opaque_string(password):
        raise Unprocessable(
            "password_characters", "A password cannot contain control characters or unassigned code points."
        )
    if normalize(password).lower() in _common():
        raise Unprocessable("common_password", "This password is too common. Choose another one.")


def hash_password(password: str) -> str:
    """Return a salted hash of this password."""
    return _hasher().hash(normalize(password))


def is_match(password_hash: str | None, password: str) -> bool:
    """Return whether this is the password.

    Without a hash (no such user), it returns False after the same time, so that timing reveals nothing.
    """
    return find_matching_form(password_hash, password) is not None


def find_matching_form(password_hash: str | None, password: str) -> Literal["normalized", "raw"] | None:
    """Return the form in which the password matches, or None if it does not. A hash of the raw form must be replaced.

    The time depends on the password alone, unless the password is right.
    """
    form = normalize(password)
    if _verifies(password_hash, form):
        return "normalized"
    return "raw" if password != form and _verifies(password_hash, password) else None


def _verifies(password_hash: str | None, password: str) -> bool:
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        _hasher().verify(password_hash or _NOBODYS, password)
    except (VerificationError, InvalidHashError):
        return False
    return password_hash is not None


def _is_opaque_string(password: str) -> bool:
    if password.isascii():
        return password.isprintable()
    from precis_i18n import get_profile

    try:
        get_profile("OpaqueString").enforce(password)
    except UnicodeEncodeError:
        return False
    return True


@functools.cache
def _common() -> frozenset[str]:
    return frozenset(gzip.decompress(_COMMON.read_bytes()).decode().split("\n"))


@functools.cache
def _hasher() -> "PasswordHasher":
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
