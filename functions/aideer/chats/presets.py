"""Presets: a prompt and the model's parameters, in versions.

Version 0 is the head, which is listed, changed and deleted. Each change also writes an immutable version, and chats pin one of
those. So no change and no deletion ever reaches a chat. A user's preset_count is the number of the user's heads. The transactions
that make and remove heads change it too. Messages that are not visible are the owner's secret. Only the owner and administrators
ever see them.
"""

import heapq
from collections.abc import Iterator
from functools import partial
from itertools import islice, repeat
from operator import attrgetter
from typing import Any

from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action
from pynamodb.indexes import GlobalSecondaryIndex

from aideer.billing import model_limits
from aideer.core import clock
from aideer.core.errors import Busy, Conflict, Forbidden, NotFound, Unprocessable
from aideer.data import lookup
from aideer.data.base import new_id
from aideer.data.models import Preset, Record, User
from aideer.data.retry import attempts
from aideer.data.transactions import Refused, Transaction
from aideer.prompts import image_urls
from aideer.schemas import presets as schemas
from aideer.security import audit_trail, auth
from aideer.web import pagination

MOST = 200
"""The most presets of one user."""
_LONGEST_SORT_KEY = 1024  # DynamoDB's limit, in bytes

_Place = tuple[str, str] | None
"""The position of one source of a list: the sort value and the id of its last preset."""


def create(user: User, new: schemas.NewPreset) -> schemas.PresetResponse:
    """Make a preset.

    Raises Forbidden (a public preset by a user that is no administrator), Unprocessable (parameters) and Conflict (too many).
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
    try:
        transaction.commit()
    except Refused as refused:
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
    """Change a preset: its head, and a new version. Raises NotFound, Forbidden, Unprocessable and Busy."""
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
        try:
            transaction.commit(proof=partial(_has_version, head))
        except Refused:  # changed or deleted meanwhile: try again
            continue
        return to_response(user, head)
    raise Busy


def delete(user: User, preset_id: str) -> None:
    """Delete a preset. Its versions stay for the chats that pin them. Raises NotFound, Forbidden and Busy.

    A record names it among its owner's deleted presets. deletion.py finds its remaining versions by this record.
    """
    counted = True
    for _ in attempts():
        head = _manageable(user, preset_id)
        transaction = Transaction()
        transaction.delete("head", Preset(head.id, Preset.HEAD), _as_read(head.number))
        left = Record(deleted_presets_key(str(head.owner_id)), head.id, data={"visibility": head.visibility})
        transaction.put("left", left)
        _record(transaction, user, "preset.delete", head)
        if counted:
            condition = User.id.exists() & (User.preset_count > 0)
            transaction.update("user", User(head.owner_id), [User.preset_count.add(-1)], condition)
        try:
            transaction.commit(proof=lambda head=head: _find(head.id) is None)  # type: ignore[misc]
        except Refused as refused:
            counted = counted and "user" not in refused.steps  # a deleted owner has no count
            continue
        return
    raise Busy


def deleted_presets_key(owner_id: str) -> str:
    """Return the hash key of the records that name this owner's deleted presets."""
    return f"deleted_presets#{owner_id}"


def list_page(
    user: User, order_by: schemas.OrderBy, order: schemas.Order, limit: int, cursor: str | None, offset: int
) -> tuple[list[schemas.PresetSummaryResponse], str | None]:
    """Return a page of the user's own presets and the public ones, and the next cursor. Administrators also get unlisted presets.

    The page merges all of the user's own presets with one query of each index. So it costs the same however many public presets
    there are. A cursor holds the position of each source. So it is exact, even if many presets have the same title.
    """
    list_name, descending = f"presets by {order_by} {order}", order == "desc"
    places = _decode_cursor(list_name, cursor)
    visibilities = ("public", "unlisted") if auth.is_admin(user) else ("public",)
    most = offset + limit + 1
    sources = [_list_own(user, order_by, descending, places[0])] + [
        _iterate_shared(user, visibility, order_by, descending, place, most)
        for visibility, place in zip(visibilities, places[1:], strict=False)
    ]
    numbered = [zip(repeat(n), source) for n, source in enumerate(sources)]
    merged = heapq.merge(*numbered, key=lambda found: str(getattr(found[1], order_by)), reverse=descending)
    found = list(islice(merged, most))
    for n, head in found[: offset + limit]:
        places[n] = (getattr(head, order_by), head.id)
    key = [part for place in places for part in (place or ("", ""))]
    more = pagination.encode(list_name, key) if len(found) == most else None
    return [_summary(head) for _, head in found[offset : offset + limit]], more


def to_response(user: User, head: Preset) -> schemas.PresetResponse:
    """Return a preset as this user may see it."""
    all_of_it = auth.may_manage(user, head.owner_id)
    shown = [message for message in head.messages if all_of_it or message["visibility"]]
    return schemas.PresetResponse(
        **dict(_summary(head)),
        # Stored messages are not validated again: rules that have changed since must not make them unreadable.
        messages=[schemas.PresetMessage.model_construct(**message) for message in shown],
    )


def _summary(head: Preset) -> schemas.PresetSummaryResponse:
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


def _list_own(user: User, order_by: str, descending: bool, after: _Place) -> list[Preset]:
    heads = sorted(Preset.by_owner.query(user.id), key=attrgetter(order_by, "id"), reverse=descending)
    return [head for head in heads if after is None or _is_after(head, order_by, descending, after)]


def _is_after(head: Preset, order_by: str, descending: bool, after: tuple[str, str]) -> bool:
    place = (getattr(head, order_by), head.id)
    return place < after if descending else place > after


def _iterate_shared(
    user: User, visibility: str, order_by: str, descending: bool, after: _Place, most: int
) -> Iterator[Preset]:
    indexes: dict[str, GlobalSecondaryIndex[Preset]] = {
        "create_time": Preset.by_create_time,
        "update_time": Preset.by_update_time,
        "title": Preset.by_title,
    }
    start = after and {
        "visibility": {"S": visibility},
        order_by: {"S": after[0]},
        "id": {"S": after[1]},
        "version": {"N": str(Preset.HEAD)},
    }
    found = indexes[order_by].query(
        visibility, scan_index_forward=not descending, last_evaluated_key=start, page_size=most
    )
    return (head for head in found if head.owner_id != user.id)


def _decode_cursor(list_name: str, cursor: str | None) -> list[_Place]:
    if cursor is None:
        return [None, None, None]
    key = pagination.decode(list_name, cursor, (str,) * 6)
    places = list(zip(key[::2], key[1::2], strict=True))
    if any(bool(value) != bool(id) or len(value.encode()) > _LONGEST_SORT_KEY for value, id in places):
        raise Unprocessable("invalid_cursor", "This cursor is not from this list.")
    return [place if place[1] else None for place in places]


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
    return Conflict("too_many_presets", f"A user can have at most {MOST} presets.")


def _not_found() -> NotFound:
    return NotFound("preset_not_found", "There is no such preset.")
