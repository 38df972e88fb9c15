"""Consistent reads of single items."""

from collections.abc import Sequence
from typing import TypeVar

from pynamodb.attributes import Attribute
from pynamodb.expressions.condition import Condition

from aideer.core.errors import InvalidToken, NotFound
from aideer.data.base import Table
from aideer.data.models import User

M = TypeVar("M", bound=Table)
T = TypeVar("T")


def find(
    model: type[M], hash_key: str, range_key: str | int | None = None, attributes: Sequence[str] | None = None
) -> M | None:
    """Return the item with this key, or None. If `attributes` are named, the item has only these.

    The key may be any text from a caller. No item has a key that DynamoDB would refuse.
    """
    if not is_possible(hash_key, range_key):
        return None
    try:
        return model.get(hash_key, range_key, consistent_read=True, attributes_to_get=attributes)
    except model.DoesNotExist:
        return None


def is_possible(hash_key: str, range_key: str | int | None = None) -> bool:
    """Tell whether DynamoDB can have this key: a hash key has 1 to 2,048 bytes, and a range key has 1 to 1,024."""
    return 0 < len(hash_key.encode()) <= 2048 and (
        not isinstance(range_key, str) or 0 < len(range_key.encode()) <= 1024
    )


def exists(item: Table) -> bool:
    """Return whether this item is stored. If so, refresh it from the table."""
    try:
        item.refresh(consistent_read=True)
    except item.DoesNotExist:
        return False
    return True


def get_user(user_id: str) -> User:
    """Return the user with this id. Raises NotFound, also if the user was deleted."""
    user = find(User, user_id)
    if user is None or user.deleted:
        raise NotFound("user_not_found", "There is no such user.")
    return user


def reread_user(user: User) -> User:
    """Return the user as stored now, after a refusal. Raises InvalidToken if the user is deleted."""
    now = find(User, user.id)
    if now is None or now.deleted:
        raise InvalidToken("unauthorized", "Sign in first.")
    return now


def unchanged(attribute: Attribute[T], value: T | None) -> Condition:
    """Return the condition that an attribute still has the value that was read, or is still absent (None)."""
    return attribute.does_not_exist() if value is None else attribute == value
