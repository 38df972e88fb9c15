"""Password hashes: argon2id with OWASP's parameters (Password Storage Cheat Sheet: 19 MiB, 2 passes, 1 lane).

A password is hashed as RFC 8265 prepares it (section 4.2.2, OpaqueString): two keyboards that encode one text in two ways give one
password. Release 0.1 hashed what was sent: such a hash still verifies, and is replaced at the next sign-in.
"""

import functools
import gzip
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from aideer.errors import Unprocessable

if TYPE_CHECKING:  # imported where a password is at hand: most functions that know users never see one
    from argon2 import PasswordHasher

# Of no password, and ready-made: to make it on first use would tell, by its time, that nobody had that name.
_NOBODYS = "$argon2id$v=19$m=19456,t=2,p=1$UWL4ZSuq498sKLxD0wu1PA$fdyCXtWckodShRFEndV03hez0Rr5bpuTJofS2r7LXow"
_COMMON = Path(__file__).with_name("tables") / "common_passwords.txt.gz"


def normalized(password: str) -> str:
    """Return a password as it is hashed: every space a plain one, and in NFC."""
    spaced = "".join(" " if unicodedata.category(c) == "Zs" else c for c in password)
    return unicodedata.normalize("NFC", spaced)


def require_good(password: str) -> None:
    """Require of a password that is to be set that it is no common one, and a text that any keyboard can repeat.

    Raises Unprocessable. The operator's own administrator is exempt: operations/make_admin does not ask.
    """
    if not _is_opaque_string(password):
        raise Unprocessable("password_characters", "A password has no control characters or unassigned code points.")
    if normalized(password).lower() in _common():
        raise Unprocessable("common_password", "This password is among the first that are tried. Choose another one.")


def hashed(password: str) -> str:
    """A salted hash of this password."""
    return _hasher().hash(normalized(password))


def matches(password_hash: str | None, password: str) -> bool:
    """Whether this is the password. With no hash (no such user) it takes as long and says no, so that time tells nothing."""
    return matching_form(password_hash, password) is not None


def matching_form(password_hash: str | None, password: str) -> Literal["normalized", "raw"] | None:
    """Return in which form this is the password: a hash of the raw form is to be replaced. None: it is not the password.

    How long it takes depends on the password alone, unless it is right.
    """
    form = normalized(password)
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
