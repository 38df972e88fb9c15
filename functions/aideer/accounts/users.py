"""Users: create, show, list and change them. deletion.py deletes them.

One transaction creates a user and a first way to sign in, so neither exists without the other. A name is taken in all its
spellings. The key of its identity is the name under NFKC and case folding (Unicode Standard, section 3.13, D146). Names that look
like it are taken too: identities without a password reserve its skeletons (usernames.py), and the user's name_keys list their keys.
The identity has the name's key, the user has the name itself, and both change in one transaction. A user that came by WeChat may
have a name without a password. Its identity reserves the name for this user and cannot be used to sign in.
"""

import heapq
import unicodedata
from functools import partial
from itertools import islice
from operator import attrgetter
from typing import TypeVar

from pynamodb.expressions.update import Action

from aideer.accounts import avatars
from aideer.billing import credits
from aideer.core import clock, settings
from aideer.core.errors import BadRequest, Busy, Conflict, Forbidden, Unprocessable
from aideer.data import lookup
from aideer.data.base import new_id
from aideer.data.models import Identity, User
from aideer.data.retry import attempts
from aideer.data.transactions import Refused, Transaction
from aideer.schemas import users as schemas
from aideer.security import admins, audit_trail, auth, budgets, password_hashing, public_names, rate_limits
from aideer.web import pagination

_ATTEMPTS = 5
_LIST = "users"
_LONGEST_ID = 64

T = TypeVar("T")


def sign_up(new: schemas.NewUser, address: str) -> schemas.UserResponse:
    """Create a user that signs in with a password. `address` is the caller's IP address.

    Raises Forbidden if the permission is an administrator's, and BadRequest if the name is taken. Raises TooManyRequests after too
    many attempts from this address, and Unprocessable if the password is a common one.
    """
    if new.permission >= auth.ADMIN:
        raise Forbidden("not_admin", "You cannot sign up as an administrator.")
    password_hashing.require_good(new.password)
    with rate_limits.count_attempt_from("sign_up", address, successes_too=True):
        try:
            return to_response(_create(new.username, new.nickname or new.username, new.password, new.permission))
        except Refused:
            raise BadRequest("username_taken", "This name is taken.") from None


def make_admin(username: str, password: str) -> User:
    """Make an administrator with this name and password: a new user, or the user that has the name already.

    A user is promoted if the password is the user's own. An administrator gets the password, and a new one ends all of the
    administrator's sessions. Repeating the call changes nothing. Raises Conflict if another user has the name, or one that looks
    like it. This user is never promoted with a new password, because it may sign in by WeChat too.
    """
    for _ in range(_ATTEMPTS):
        identity = lookup.find(Identity, password_key(username))
        if identity is None and any(
            lookup.find(Identity, key, attributes=["user_id"]) for key in lookalike_keys(username)
        ):
            raise Conflict("username_not_theirs", "Another user has a name that looks like this one.")
        try:
            if identity is None:
                return _create(username, username, password, auth.ADMIN)
            return _promote(identity, password)
        except Refused:  # another request changed it: read again
            continue
    raise Busy


def get(viewer: User, user_id: str) -> schemas.UserResponse | schemas.PublicUserResponse:
    """Return a user with the fields that this viewer may see. Raises NotFound."""
    user = viewer if viewer.id == user_id else lookup.get_user(user_id)
    if audit_trail.must_record(viewer, user.id):
        audit_trail.record(viewer, "user.read", user.id)
    if auth.may_manage(viewer, user.id):
        return to_response(user)
    return schemas.PublicUserResponse(
        id=user.id,
        nickname=public_names.get_public_name(user),
        avatar=avatars.get_path(user),
        avatar_url=avatars.get_url(user),
    )


def list_page(limit: int, cursor: str | None, offset: int) -> tuple[list[schemas.UserResponse], str | None]:
    """Return a page of all users, the newest first, and the cursor of the next page.

    It merges one query of each shard, so its cost does not depend on the number of users. It may be shorter than `limit` although
    there are more, because an index lags behind deletions.
    """
    after = _decode_cursor(cursor) if cursor else None
    most = offset + limit + 1
    shards = [
        User.by_id.query(str(shard), User.id < after if after else None, scan_index_forward=False, limit=most)
        for shard in range(User.LIST_SHARDS)
    ]
    newest = heapq.merge(*shards, key=attrgetter("id"), reverse=True)
    ids = [key.id for key in islice(newest, offset, most)]
    wanted = ids[:limit]
    found = {user.id: user for user in User.batch_get(wanted, consistent_read=True)} if wanted else {}
    users = [to_response(found[id]) for id in wanted if id in found and not found[id].deleted]
    return users, pagination.encode(_LIST, [wanted[-1]]) if len(ids) > limit else None


def find_by_name(username: str) -> list[schemas.UserResponse]:
    """Return a list of the user that has this name in any of its spellings, or an empty list."""
    identity = lookup.find(Identity, password_key(username), attributes=["user_id"])
    user = identity and lookup.find(User, identity.user_id)
    return [to_response(user)] if user and not user.deleted else []


def resolve_id(caller: User, named: str) -> str:
    """Return the user id that a path names. `me` is the caller's own."""
    own: str = caller.id
    return own if named == "me" else named


def change(actor: User, user_id: str, wanted: schemas.UserChange) -> schemas.UserResponse:
    """Change the given fields of a user, all at once.

    Raises NotFound, Forbidden for another user or for a permission that the caller may not give, and BadRequest if the name is
    taken. Only another administrator can take an administrator's permission away, so one always remains. Names that are taken
    count as guesses: after too many it raises TooManyRequests. It also raises that if the writing budget is used up.
    """
    budgets.charge_writing(actor.id, 0)
    if wanted.username is None:
        return _try_change(actor, user_id, wanted)
    with rate_limits.count_attempt("name", actor.id, guesses={"username_taken"}):
        return _try_change(actor, user_id, wanted)


def _try_change(actor: User, user_id: str, wanted: schemas.UserChange) -> schemas.UserResponse:
    for _ in attempts():
        user = get_manageable(actor, user_id)
        if wanted.permission is not None:
            _require_may_permit(actor, user)
        now = clock.timestamp()
        transaction = Transaction()
        if not _change_in(transaction, user, wanted, now):
            if actor.id != user.id:
                audit_trail.record(actor, "user.read", user.id)
            return to_response(user)
        if actor.id != user.id:
            action: audit_trail.Action = "user.change" if wanted.permission is None else "user.permission"
            audit_trail.record_in(transaction, actor, action, user.id)
        try:
            transaction.commit(proof=partial(_was_changed, user.id, now))
        except Refused as refused:
            if "user" not in refused.steps and "new name" in refused.steps:
                raise BadRequest("username_taken", "This name is taken.") from None
            continue  # the user has changed meanwhile: read again
        return to_response(lookup.get_user(user.id))
    raise Busy


def get_manageable(actor: User, user_id: str) -> User:
    """Return the user, if the actor may manage it. Raises NotFound and Forbidden."""
    user = lookup.get_user(user_id)
    if not auth.may_manage(actor, user.id):
        raise Forbidden("not_you", "You can do this only for your own user.")
    return user


def password_key(username: str) -> str:
    """Return the key of the identity that signs in with this name."""
    folded = unicodedata.normalize("NFKC", username).casefold()
    return f"password#{unicodedata.normalize('NFKC', folded).strip()}"  # stripped last: NFKC can produce spaces


def lookalike_keys(username: str) -> set[str]:
    """Return the keys of the identities that reserve all names that look like this one."""
    from aideer.security import usernames  # a slow import that only changes of names need

    return {f"skeleton#{skeleton}" for skeleton in usernames.compute_skeletons(username)}


def reserve_in(transaction: Transaction, user: User, username: str) -> list[Action]:
    """Reserve the skeletons of a new name for its user, and free those of the old name. Return the actions on the user."""
    old, new = set(user.name_keys or ()), lookalike_keys(username)
    for key in sorted(new - old):
        transaction.put("new name", Identity(key, user_id=user.id), Identity.key.does_not_exist())
    for key in sorted(old - new):
        transaction.delete("old name", Identity(key), Identity.key.does_not_exist() | (Identity.user_id == user.id))
    return [] if old == new else [User.name_keys.set(new)]


def to_response(user: User) -> schemas.UserResponse:
    """Return a user with all fields, as the user and administrators see it."""
    return schemas.UserResponse(
        id=user.id,
        username=user.username,
        nickname=user.nickname,
        permission=user.permission,
        avatar=avatars.get_path(user),
        avatar_url=avatars.get_url(user),
        credits_left=user.credits,
        credits_held=credits.sum_holds(user),
        create_time=user.create_time,
        update_time=user.update_time,
    )


def _decode_cursor(cursor: str) -> str:
    [user_id] = pagination.decode(_LIST, cursor, (str,))
    if not 0 < len(user_id.encode()) <= _LONGEST_ID:
        raise Unprocessable("invalid_cursor", "This cursor is not from this list.")
    return str(user_id)


def _require_may_permit(actor: User, user: User) -> None:
    if not auth.is_admin(actor):
        raise Forbidden("not_admin", "Only administrators can change permissions.")
    if actor.id == user.id:
        raise Forbidden("own_permission", "You cannot change your own permission.")


def _change_in(transaction: Transaction, user: User, wanted: schemas.UserChange, now: str) -> bool:
    """Add the changes of a user, as it was read, to the transaction. Return whether there are any."""
    actions: list[Action] = []
    condition = User.id.exists() & User.deleted.does_not_exist()
    if wanted.nickname not in (None, user.nickname):
        actions.append(User.nickname.set(wanted.nickname))
    if wanted.username not in (None, user.username):
        actions.append(User.username.set(wanted.username))
        condition &= lookup.unchanged(User.username, user.username) & lookup.unchanged(User.name_keys, user.name_keys)
        _rename(transaction, user, str(wanted.username))
        actions += reserve_in(transaction, user, str(wanted.username))
    if wanted.permission not in (None, user.permission):
        actions.append(User.permission.set(wanted.permission))
        condition &= User.permission == user.permission
        if wanted.permission == auth.ADMIN:
            admins.add_in(transaction, user.id)
        elif auth.is_admin(user):
            admins.remove_in(transaction, user.id)
    if actions:
        transaction.update("user", User(user.id), [*actions, User.update_time.set(now)], condition)
    return bool(actions)


def _rename(transaction: Transaction, user: User, username: str) -> None:
    """Move the identity, with its current password, to the key of a new name. Another spelling of the name has the same key."""
    new, password_hash = password_key(username), None
    if user.username is not None:
        old = password_key(user.username)
        if new == old:
            return
        if identity := lookup.find(Identity, old):  # else the name has just changed: the transaction is refused
            password_hash = identity.password_hash
        kept = (Identity.user_id == user.id) & lookup.unchanged(Identity.password_hash, password_hash)
        transaction.delete("old name", Identity(old), kept)
    renamed = Identity(new, user_id=user.id, password_hash=password_hash)
    transaction.put("new name", renamed, Identity.key.does_not_exist())


def _was_changed(user_id: str, update_time: str) -> bool:
    user = lookup.find(User, user_id)
    return user is not None and bool(user.update_time == update_time)


def _create(username: str, nickname: str, password: str, permission: int) -> User:
    password_hash = password_hashing.hash_password(password)  # slow on purpose, and so before the transaction
    now = clock.timestamp()
    user = User(new_id(), username=username, nickname=nickname, permission=permission, create_time=now, update_time=now)
    identity = Identity(password_key(username), user_id=user.id, password_hash=password_hash)
    user.name_keys = lookalike_keys(username)
    reserved = [Identity(key, user_id=user.id) for key in sorted(user.name_keys)]
    credits.sign_up(user, identity, settings.SIGNUP_CREDITS, *reserved)
    return user


def _promote(identity: Identity, password: str) -> User:
    user = User.get(identity.user_id, consistent_read=True)
    same_password = password_hashing.is_match(identity.password_hash, password)
    if same_password and auth.is_admin(user):
        return user
    if not same_password and not auth.is_admin(user):
        raise Conflict("username_not_theirs", "Another user has this name, with another password.")
    transaction = Transaction()
    actions: list[Action] = [User.permission.set(auth.ADMIN), User.update_time.set(clock.timestamp())]
    if not same_password:
        actions += auth.end_sessions()
        transaction.update(
            "identity",
            Identity(identity.key),
            [Identity.password_hash.set(password_hashing.hash_password(password))],
            (Identity.user_id == user.id) & lookup.unchanged(Identity.password_hash, identity.password_hash),
        )
    admins.add_in(transaction, user.id)
    as_read = (
        (User.token_version == user.token_version)
        & (User.permission == user.permission)
        & lookup.unchanged(User.username, user.username)
    )
    transaction.update("user", User(user.id), actions, User.deleted.does_not_exist() & as_read)
    transaction.commit()
    return User.get(user.id, consistent_read=True)
