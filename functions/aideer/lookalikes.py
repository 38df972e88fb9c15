"""Reservations for names of release 0.1, which reserved nothing of what looks like them.

Users are read by their list, oldest shard first, and each that has a name without reservations gets them in one transaction. It may
be broken off anywhere and run again. Two old names that look alike keep both: the first of them has the reservation.
"""

import time

from aideer import users
from aideer.models import User
from aideer.transactions import Refused, Transaction

_READ_AT_ONCE = 100


def reserve_all(seconds: float) -> dict[str, int | bool]:
    """Reserve what each name looks like. Returns {reserved, lookalikes (of others), done (whether all users were looked at)}."""
    give_up_at = time.monotonic() + seconds
    found = {"reserved": 0, "lookalikes": 0}
    for shard in range(User.LIST_SHARDS):
        for raw in User.by_id.query(str(shard), page_size=_READ_AT_ONCE).page_iter:
            for user in User.batch_get([item["id"]["S"] for item in raw["Items"]], consistent_read=True):
                if user.username is None or user.name_keys or user.deleted:
                    continue
                if time.monotonic() > give_up_at:
                    return {**found, "done": False}
                found["reserved" if _reserve(user, str(user.username)) else "lookalikes"] += 1
    return {**found, "done": True}


def _reserve(user: User, username: str) -> bool:
    transaction = Transaction()
    actions = users.reserve_in(transaction, user, username)
    unchanged = users.unchanged(User.username, username) & users.unchanged(User.name_keys, None)
    transaction.update("user", User(user.id), actions, User.deleted.does_not_exist() & unchanged)
    try:
        transaction.commit()
    except Refused:  # taken, or they have just got another name, with what it reserves
        return False
    return True
