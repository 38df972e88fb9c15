"""Password hashes: argon2id with OWASP's parameters (Password Storage Cheat Sheet: 19 MiB, 2 passes, 1 lane)."""

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported where a password is at hand: most functions that know users never see one
    from argon2 import PasswordHasher

# Of no password, and ready-made: to make it on first use would tell, by its time, that nobody had that name.
_NOBODYS = "$argon2id$v=19$m=19456,t=2,p=1$UWL4ZSuq498sKLxD0wu1PA$fdyCXtWckodShRFEndV03hez0Rr5bpuTJofS2r7LXow"


def hashed(password: str) -> str:
    """A salted hash of this password."""
    return _hasher().hash(password)


def matches(password_hash: str | None, password: str) -> bool:
    """Whether this is the password. With no hash (no such user) it takes as long and says no, so that time tells nothing."""
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        _hasher().verify(password_hash or _NOBODYS, password)
    except (VerificationError, InvalidHashError):
        return False
    return password_hash is not None


@functools.cache
def _hasher() -> "PasswordHasher":
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
