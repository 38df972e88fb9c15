"""Reservations for names of release 0.1, which reserved no look-alikes of its names.

The job reads users through their list, shard by shard, and the oldest of a shard first. Each user with a name without reservations
gets them in one transaction. The job may break off anywhere and be run again. If two old names look alike, both users keep their
names, and the first of them has the reservation.
"""

import time

from aideer.accounts import users
from aideer.data import lookup
from aideer.data.models import User
from aideer.data.transactions import Refused, Transaction

_READ_AT_ONCE = 100


def reserve_all(seconds: float) -> dict[str, int | bool]:
    """Reserve the look-alikes of each name, for at most `seconds`. Return {reserved, lookalikes, done}.

    `lookalikes` counts the names that look like a reserved name of another user. `done` is whether all users were read.
    """
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
    unchanged = lookup.unchanged(User.username, username) & lookup.unchanged(User.name_keys, None)
    transaction.update("user", User(user.id), actions, User.deleted.does_not_exist() & unchanged)
    try:
        transaction.commit()
    except Refused:  # taken, or the user has just got another name with its reservations
        return False
    return True
