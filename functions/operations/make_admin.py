"""Make an administrator. It has no endpoint: an operator invokes it with {"username": …, "password": …}."""

from typing import Any

from aideer.accounts import users
from aideer.core.warmth import answers_pings
from aideer.schemas.users import NewAdmin


@answers_pings
def handler(event: dict[str, Any], context: object) -> dict[str, str]:  # noqa: ARG001 - Lambda gives it
    admin = NewAdmin.model_validate(event)
    user = users.make_admin(admin.username, admin.password)
    return {"user_id": user.id}
