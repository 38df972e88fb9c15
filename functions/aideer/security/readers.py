"""The type of callers of calls that return much: signed-in users, whose responses count towards the reading budget.

    def get(user: Reader, id: str) -> ...

A caller that has used up the budget is refused before anything is read. A response to GET is also refused if it is the one that
shows that the budget is used up. A response to another method is always sent, because its call has changed something.
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated

from aws_lambda_powertools.event_handler import Depends

from aideer.core.errors import AideerError, TooManyRequests
from aideer.data.models import User
from aideer.security import budgets
from aideer.security.callers import Visitor
from aideer.web import http


def require_reader(user: Visitor) -> User:
    """Dependency: return the caller. Visitors are allowed. Raises TooManyRequests if the reading budget is used up."""
    budgets.require(user.id)
    http.on_answer(partial(_charge, budgets.charge, user.id))
    return user


def charge_links(owner_id: str) -> None:
    """Count this request's answer towards the budget of a user's share links. Raises TooManyRequests if it is used up."""
    budgets.require(owner_id, "shared_read")
    http.on_answer(partial(_charge, budgets.charge_links, owner_id))


def _charge(charge: Callable[[str, int], None], user_id: str, size: int) -> AideerError | None:
    try:
        charge(user_id, size)
    except TooManyRequests as refusal:
        return refusal
    return None


Reader = Annotated[User, Depends(require_reader)]
