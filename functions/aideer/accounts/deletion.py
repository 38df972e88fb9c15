"""The deletion of a user. The user is gone for everyone at once, and background jobs remove the user's data.

One transaction leaves a tombstone. It deletes the identities, so the name is free. It raises token_version, so no token is valid.
Credits and holds stay, and the credit rules still hold. The same transaction writes a job that is due BEFORE_SECONDS later. By
then, no request that was accepted before is still writing, and all later ones are refused. The job ends the user's tasks and
waits until no credits are held. Then it removes chats, share links, presets, likes, the feed of changes, clients' ids, uploads, the
avatar image, the settings, the sessions' records and the API keys. A second job, a minute later, looks for them once more, then
removes the ledger, and the user last. Each step looks for the data that is left. So it can be interrupted anywhere and repeated,
also by two workers at once.

These stay:
- public presets, because they belong to the product;
- versions of presets that others could open chats on, because those chats may pin them;
- redemptions, because they count the uses of a code, but without the user's id;
- until their TTL: ended tasks, stream logs, used keys and the audit trail's ids.

A version that was written while its preset was private is removed. This includes presets that are public now or were deleted
before. Versions of release 0.1 do not record whether others could use them. They are removed with a private preset, and stay
otherwise.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from aideer.accounts import api_keys, avatars, devices, settings, users
from aideer.billing import counters, credits
from aideer.chats import chat_marks, client_ids, feedback, likes, messages, presets, quota, shares
from aideer.core.errors import Busy, Conflict
from aideer.data import batch_write, changes, jobs, lookup
from aideer.data.base import new_id
from aideer.data.models import Chat, CreditEntry, Identity, Preset, Record, User
from aideer.data.retry import attempts
from aideer.data.transactions import Refused, Transaction
from aideer.security import admins, audit_trail, auth
from aideer.tasks import control
from aideer.uploads import references, uploads

BEFORE_SECONDS = 60
"""Longer than any request lasts."""
_CHATS = 100  # one BatchGetItem
_THREADS = 8


def delete(actor: User, user_id: str) -> None:
    """Delete a user: the actor's own account, or as an administrator any account.

    Raises NotFound, Forbidden for another user's account, and Conflict for the last administrator.
    """
    no_admins: set[str] = set()
    not_theirs: set[str] = set()
    for _ in attempts():
        user = users.get_manageable(actor, user_id)
        left = _admin_left(user, no_admins) if actor.id == user.id else None
        transaction = _end_user(user, not_theirs)
        if actor.id != user.id:
            audit_trail.record_in(transaction, actor, "user.delete", user.id)
        elif left:
            admins.require_in(transaction, "left", left)
        try:
            transaction.commit(proof=partial(_is_deleted, user.id))
        except Refused as refused:  # try again without the steps that were refused
            if "left" in refused.steps:
                no_admins.add(str(left))
            not_theirs |= refused.steps & _identities(user)
            continue
        return
    raise Busy


def remove(user_id: str, deadline: float) -> bool:
    """Remove a deleted user's data until `deadline` (of time.monotonic). Return whether all of it is gone.

    A second job then calls `finish`. It is needed because indexes find the data, and an index may lag behind the last writes.
    """
    user = _tombstone(user_id)
    if user is None:
        return True
    if not _remove_data(user, deadline):
        return False
    jobs.create("user_last", BEFORE_SECONDS, user_id=user_id)
    return True


def finish(user_id: str, deadline: float) -> bool:
    """Remove the remaining data, the ledger and the user. Return whether the user is gone."""
    user = _tombstone(user_id)
    if user is None:
        return True
    if not (_remove_data(user, deadline) and _remove_ledger(user_id, deadline)):
        return False
    quota.remove_count(user_id)
    chat_marks.remove_pins(user_id)
    return _remove(user)


def _remove_data(user: User, deadline: float) -> bool:
    steps: list[Callable[[], bool]] = [
        partial(_end_tasks, user, deadline),
        partial(_remove_chats, user.id, deadline),
        partial(shares.remove_of_user, user.id, deadline),
        partial(_remove_presets, user.id, deadline),
        partial(likes.remove_all, user.id, deadline),
        partial(changes.remove_all, user.id, deadline),
        partial(client_ids.remove_of_user, user.id, deadline),
        partial(avatars.remove, user.id, deadline),
        partial(_remove_settings, user.id),
        partial(uploads.remove_all, user.id, deadline),
        partial(devices.remove_all, user.id, deadline),
        partial(api_keys.remove_all, user.id, deadline),
    ]
    return all(step() for step in steps)


def _admin_left(user: User, no_admins: set[str]) -> str | None:
    """Return another administrator, or None if the user is no administrator. Raises Conflict if there is no other.

    The other must still be one when this one deletes their own account.
    """
    if not admins.is_admin(user):
        return None
    for other in admins.list_others(user.id):
        if other not in no_admins:
            return other
    raise Conflict("last_admin", "This is the last administrator. Make another administrator first.")


def _end_user(user: User, not_theirs: set[str]) -> Transaction:
    transaction = Transaction()
    transaction.update(
        "user",
        User(user.id),
        [User.deleted.set(True), *auth.end_sessions(), User.list_shard.remove()],
        User.id.exists()
        & User.deleted.does_not_exist()
        & (User.permission == user.permission)
        & lookup.unchanged(User.username, user.username)
        & lookup.unchanged(User.name_keys, user.name_keys)
        & lookup.unchanged(User.wechat_keys, user.wechat_keys),
    )
    for key in sorted(_identities(user) - not_theirs):
        gone_or_theirs = Identity.key.does_not_exist() | (Identity.user_id == user.id)
        transaction.delete(key, Identity(key), gone_or_theirs)
    if admins.is_admin(user):
        admins.remove_in(transaction, user.id)
    counters.count_user(transaction, deleted=True)
    jobs.enqueue_in(transaction, "user", BEFORE_SECONDS, user_id=user.id)
    return transaction


def _identities(user: User) -> set[str]:
    keys = set(user.wechat_keys or ()) | set(user.name_keys or ())
    return keys if user.username is None else keys | {users.password_key(user.username)}


def _end_tasks(user: User, deadline: float) -> bool:
    for task_id in user.holds.attribute_values:
        if time.monotonic() > deadline:
            return False
        control.request_stop(task_id)
    user = lookup.find(User, user.id) or user
    return not user.holds.attribute_values  # an executor, or the sweeper, ends a running task


def _remove_chats(user_id: str, deadline: float) -> bool:
    with ThreadPoolExecutor(_THREADS) as threads:
        for raw in Chat.by_create_time.query(user_id, page_size=_CHATS).page_iter:
            chats = list(Chat.batch_get([item["id"]["S"] for item in raw["Items"]], consistent_read=True))
            if not all(threads.map(partial(_remove_chat, deadline), chats)):
                return False
    return True


def _remove_chat(deadline: float, chat: Chat) -> bool:
    if time.monotonic() > deadline or not messages.delete_branches(chat, deadline):
        return False
    steps = (feedback.remove_of_chat, client_ids.remove_of_chat, references.remove)
    if not all(step(chat.id, deadline) for step in steps):
        return False
    chat.delete()
    return True


def _remove_presets(user_id: str, deadline: float) -> bool:
    for head in Preset.by_owner.query(user_id):
        if time.monotonic() > deadline or not _remove_versions(head.id, head.visibility, deadline):
            return False
        transaction = Transaction()  # DynamoDB refuses a plain deletion during the transaction of a like
        own = (Preset.owner_id == user_id) & (Preset.visibility != "public")
        transaction.delete("head", Preset(head.id, Preset.HEAD), own)
        with suppress(Refused):  # it is public, or gone already
            transaction.commit()
    for record in Record.query(presets.deleted_presets_key(user_id), consistent_read=True):
        if time.monotonic() > deadline or not _remove_versions(record.sk, record.data["visibility"], deadline):
            return False
        record.delete()
    return True


def _remove_versions(preset_id: str, visibility: str | None, deadline: float) -> bool:
    """Remove the versions of a preset that no other user could open a chat on. `visibility` is the preset's current or last one."""
    unknown = {"BOOL": visibility != "private"}
    reads = Preset.query(
        preset_id,
        Preset.version > Preset.HEAD,
        consistent_read=True,
        attributes_to_get=["id", "version", "shared"],
    ).page_iter
    private = [
        {"id": item["id"], "version": item["version"]}
        for raw in reads
        for item in raw["Items"]
        if not item.get("shared", unknown)["BOOL"]
    ]
    return batch_write.delete(Preset, private, deadline)


def _remove_settings(user_id: str) -> bool:
    settings.remove(user_id)
    return True


def _remove_ledger(user_id: str, deadline: float) -> bool:
    names = ["user_id", "entry_id", "code"]
    for raw in CreditEntry.query(user_id, consistent_read=True, attributes_to_get=names).page_iter:
        for item in raw["Items"]:
            if "code" in item:
                if time.monotonic() > deadline:
                    return False
                _forget_redeemer(item.pop("code")["S"], user_id)
        if not batch_write.delete(CreditEntry, raw["Items"], deadline):
            return False
    return True


def _forget_redeemer(code: str, user_id: str) -> None:
    """Replace this redemption by one without a user. A code keeps as many redemptions as uses (I5)."""
    key = credits.redemptions_key(code)
    transaction = Transaction()
    transaction.delete("theirs", Record(key, user_id), Record.pk.exists())
    transaction.put("nobody's", Record(key, f"deleted#{new_id()}"))
    with suppress(Refused):  # done already
        transaction.commit()


def _remove(user: User) -> bool:
    transaction = Transaction()
    transaction.delete("user", User(user.id), User.deleted.exists())
    with suppress(Refused):  # gone already
        transaction.commit()
    return True


def _tombstone(user_id: str) -> User | None:
    user = lookup.find(User, user_id)
    return user if user and user.deleted else None


def _is_deleted(user_id: str) -> bool:
    user = lookup.find(User, user_id)
    return user is None or user.deleted is True
