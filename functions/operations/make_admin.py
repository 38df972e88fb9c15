"""Make an administrator, and the first public preset if there is none.

It has no endpoint: an operator invokes it with {"username": …, "password": …}.
"""

from typing import Any

from aideer.accounts import users
from aideer.chats import first_preset
from aideer.core.warmth import answers_pings
from aideer.schemas.users import NewAdmin


@answers_pings
def handler(event: dict[str, Any], context: object) -> dict[str, str]:  # noqa: ARG001 - Lambda gives it
    admin = NewAdmin.model_validate(event)
    user = users.make_admin(admin.username, admin.password)
    preset_id = first_preset.provide(user)
    return {"user_id": user.id, **({"preset_id": preset_id} if preset_id else {})}
