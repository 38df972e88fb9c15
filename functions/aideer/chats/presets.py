"""Presets: a prompt and the model's parameters, in versions.

Version 0 is the head, which is listed, changed and deleted. Each change also writes an immutable version, and chats pin one of
those. So no change and no deletion ever reaches a chat. A user's preset_count is the number of the user's heads. The transactions
that make and remove heads change it too. Messages that are not visible are the owner's secret. Only the owner and administrators
ever see them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action

from aideer.billing import model_limits
from aideer.core import clock
from aideer.core.errors import Busy, Conflict, Detail, Forbidden, NotFound
from aideer.data import jobs, lookup
from aideer.data.base import new_id
from aideer.data.models import Preset, Record, User
from aideer.data.retry import attempts
from aideer.data.transactions import Refused, Transaction
from aideer.prompts import image_urls
from aideer.schemas import presets as schemas
from aideer.security import audit_trail, auth, rate_limits

MOST = 200
"""The most presets of one user."""
SUPERSEDED_SECONDS = 86400
"""How long a version stays at least after another one has replaced it: longer than any request that has read it lasts."""


def create(
    user: User, new: schemas.NewPreset, beside: Callable[[Transaction, Preset], None] | None = None
) -> schemas.PresetResponse:
    """Make a preset. `beside` adds to the transaction that does so.

    Raises Forbidden (a public preset by a user that is no administrator), Unprocessable (parameters), Conflict (too many) and
    TooManyRequests.
    """
    _require_may_have(user, new.visibility)
    _require_valid(new.parameters, new.messages)
    now = clock.timestamp()
    content: dict[str, Any] = {
        "number": 1,
        "title": new.title,
        "description": new.description,
        "type": new.type,
        "parameters": new.parameters.model_dump(),
        "messages": [message.model_dump() for message in new.messages],
        "shared": new.visibility != "private",
        "create_time": now,
        "update_time": now,
    }
    head = Preset(new_id(), Preset.HEAD, owner_id=user.id, visibility=new.visibility, **content)
    _require_vision(head)
    model_limits.require_json_word(head.parameters, head.messages)
    condition = User.id.exists() & User.deleted.does_not_exist() & (User.preset_count < MOST)
    transaction = Transaction()
    transaction.update("user", User(user.id), [User.preset_count.add(1)], condition)
    transaction.put("head", head, Preset.id.does_not_exist())
    transaction.put("version", Preset(head.id, 1, **content), Preset.id.does_not_exist())
    _record(transaction, user, "preset.create", head)
    if beside:
        beside(transaction, head)
    _count_change_in(transaction, user)
    try:
        transaction.commit()
    except Refused as refused:
        _require_below_limit(refused)
        if "head" not in refused.steps:  # otherwise the head is stored: no other preset has its id
            raise _limit_error(user, new.visibility) from None
    return to_response(user, head)


def get(user: User, preset_id: str) -> schemas.PresetResponse:
    """Return a preset. Raises NotFound, and Forbidden for another user's private preset."""
    head = get_readable(user, preset_id)
    if audit_trail.must_record(user, head.owner_id):  # an administrator sees its hidden messages
        audit_trail.record(user, "preset.read", head.owner_id, head.id)
    return to_response(user, head)


def get_readable(user: User, preset_id: str) -> Preset:
    """Return the head of a preset that this user may read and use.

    Raises NotFound, and Forbidden for another user's private preset.
    """
    head = _find(preset_id)
    if head is None:
        raise _not_found()
    if not (is_open_to(head, user.id) or auth.is_admin(user)):
        raise Forbidden("preset_private", "This preset is private.")
    return head


def is_open_to(head: Preset, user_id: str) -> bool:
    """Return whether a user may read and use a preset without being an administrator."""
    return bool(head.visibility != "private" or head.owner_id == user_id)


def update(user: User, preset_id: str, change: schemas.PresetChange) -> schemas.PresetResponse:
    """Change a preset: its head, and a new version. Raises NotFound, Forbidden, Unprocessable, TooManyRequests and Busy.

    A job removes the version that it replaces, once no chat pins it.
    """
    for _ in attempts():
        head = _manageable(user, preset_id)
        number, visibility = head.number, head.visibility
        transaction = Transaction()
        if head.shared is None:  # an earlier release wrote the version that this change replaces
            told = [Preset.shared.set(visibility != "private")]
            transaction.update("previous", Preset(head.id, number), told, Preset.id.exists())
        _change(user, head, change)
        transaction.update("head", Preset(head.id, Preset.HEAD), _actions(head), _as_read(number))
        _record(transaction, user, "preset.change", head, visibility)
        transaction.put("version", _version(head), Preset.id.does_not_exist())
        _supersede_in(transaction, head.id, number)
        _count_change_in(transaction, user)
        try:
            transaction.commit(proof=partial(_has_version, head))
        except Refused as refused:  # changed or deleted meanwhile: try again
            _require_below_limit(refused)
            continue
        return to_response(user, head)
    raise Busy


def delete(user: User, preset_id: str) -> None:
    """Delete a preset. Its versions stay for the chats that pin them. Raises NotFound, Forbidden and Busy.

    A job removes its last version, once no chat pins it. A record names it among its owner's deleted presets. deletion.py finds its
    remaining versions by this record.
    """
    counted = True
    for _ in attempts():
        head = _manageable(user, preset_id)
        transaction = Transaction()
        transaction.delete("head", Preset(head.id, Preset.HEAD), _as_read(head.number))
        left = Record(deleted_presets_key(str(head.owner_id)), head.id, data={"visibility": head.visibility})
        transaction.put("left", left)
        _supersede_in(transaction, head.id, head.number)
        _record(transaction, user, "preset.delete", head)
        if counted:
            condition = User.id.exists() & (User.preset_count > 0)
            transaction.update("user", User(head.owner_id), [User.preset_count.add(-1)], condition)
        try:
            transaction.commit(proof=lambda: _find(preset_id) is None)
        except Refused as refused:
            counted = counted and "user" not in refused.steps  # a deleted owner has no count
            continue
        return
    raise Busy


def deleted_presets_key(owner_id: str) -> str:
    """Return the hash key of the records that name this owner's deleted presets."""
    return f"deleted_presets#{owner_id}"


def to_response(user: User, head: Preset) -> schemas.PresetResponse:
    """Return a preset as this user may see it."""
    all_of_it = auth.may_manage(user, head.owner_id)
    shown = [message for message in head.messages if all_of_it or message["visibility"]]
    return schemas.PresetResponse(
        **dict(to_summary(head)),
        # Stored messages are not validated again: rules that have changed since must not make them unreadable.
        messages=[schemas.PresetMessage.model_construct(**message) for message in shown],
    )


def to_summary(head: Preset) -> schemas.PresetSummaryResponse:
    """Return a preset as lists show it, without its messages."""
    return schemas.PresetSummaryResponse(
        id=head.id,
        owner_id=head.owner_id,
        version=head.number,
        title=head.title,
        description=head.description,
        type=head.type,
        visibility=head.visibility,
        parameters=schemas.Parameters.stored(head.parameters),
        like_count=head.like_count,
        create_time=head.create_time,
        update_time=head.update_time,
    )


def _find(preset_id: str) -> Preset | None:
    return lookup.find(Preset, preset_id, Preset.HEAD)


def _manageable(user: User, preset_id: str) -> Preset:
    head = _find(preset_id)
    if head is None:
        raise _not_found()
    if not auth.may_manage(user, head.owner_id):
        raise Forbidden("not_your_preset", "This preset belongs to another user.")
    _require_may_have(user, head.visibility)
    return head


def _require_may_have(user: User, visibility: str | None) -> None:
    if visibility == "public" and not auth.is_admin(user):
        raise Forbidden("not_admin", "Only administrators can make, change or delete public presets.")


def _change(user: User, head: Preset, change: schemas.PresetChange) -> None:
    given = change.model_fields_set
    _require_may_have(user, change.visibility)
    _require_valid(change.parameters, change.messages or [])
    if change.parameters:
        head.parameters = change.parameters.model_dump()
    if change.messages is not None:
        head.messages = [message.model_dump() for message in change.messages]
    if change.parameters or change.messages:
        _require_vision(head)
    if change.parameters or change.messages is not None:
        model_limits.require_json_word(head.parameters, head.messages)
    if "description" in given:
        head.description = change.description
    head.title = change.title or head.title
    head.visibility = change.visibility or head.visibility
    head.shared = head.visibility != "private"
    head.number += 1
    head.update_time = clock.timestamp()


def _actions(head: Preset) -> list[Action]:
    return [
        Preset.number.set(head.number),
        Preset.title.set(head.title),
        Preset.description.remove() if head.description is None else Preset.description.set(head.description),
        Preset.visibility.set(head.visibility),
        Preset.shared.set(head.shared),
        Preset.parameters.set(head.parameters),
        Preset.messages.set(head.messages),
        Preset.update_time.set(head.update_time),
    ]


def _record(
    transaction: Transaction, user: User, action: audit_trail.Action, head: Preset, visibility: str | None = None
) -> None:
    """Record a change of another user's preset, or of one that is or was public. Only administrators may make it.

    `visibility` is the one before the change.
    """
    if audit_trail.must_record(user, head.owner_id) or "public" in (head.visibility, visibility):
        audit_trail.record_in(transaction, user, action, head.owner_id, head.id)


def _count_change_in(transaction: Transaction, user: User) -> None:
    if not auth.is_admin(user):  # an operator may bring in any number of presets at once
        rate_limits.count_in(transaction, "preset", user.id)


def _require_below_limit(refused: Refused) -> None:
    if "preset" in refused.steps:
        raise rate_limits.refusal("preset") from None


def _supersede_in(transaction: Transaction, preset_id: str, number: int) -> None:
    """Write the job that removes this version, which nobody can newly pin from now on."""
    jobs.enqueue_in(transaction, "preset_version", SUPERSEDED_SECONDS, preset_id=preset_id, version=str(number))


def _as_read(number: int) -> Condition:
    condition: Condition = Preset.id.exists() & (Preset.number == number)
    return condition


def _version(head: Preset) -> Preset:
    return Preset(
        head.id,
        head.number,
        number=head.number,
        title=head.title,
        description=head.description,
        type=head.type,
        parameters=head.parameters,
        messages=head.messages,
        shared=head.shared,
        create_time=head.create_time,
        update_time=head.update_time,
    )


def _has_version(head: Preset) -> bool:
    """Return whether this very change is stored. Another change with the same number has another time."""
    stored = lookup.find(Preset, head.id, head.number)
    return stored is not None and bool(stored.update_time == head.update_time)


def _require_valid(parameters: schemas.Parameters | None, messages: list[schemas.PresetMessage]) -> None:
    for message in messages:
        if message.type == "image":
            image_urls.check(message.role, message.content)
    if parameters is None:
        return
    tariff, given = model_limits.require_available(parameters.model), parameters.model_dump()
    model_limits.require_abilities(tariff, given)
    model_limits.require_ranges(tariff, given)


def _require_vision(head: Preset) -> None:
    """If a preset has images, require a model that accepts them."""
    if any(message["type"] == "image" for message in head.messages):
        image_urls.require_vision(head.parameters)


def _limit_error(user: User, visibility: str) -> Conflict:
    _require_may_have(lookup.reread_user(user), visibility)
    return Conflict("too_many_presets", Detail("A user can have at most {most} presets.", most=MOST))


def _not_found() -> NotFound:
    return NotFound("preset_not_found", "There is no such preset.")
