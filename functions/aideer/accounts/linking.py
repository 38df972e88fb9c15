"""Linking: a user adds the other way of signing in.

A user has at most one name with a password, and at most one WeChat account. An openid that belongs to another user cannot be
linked, unless WeChat's sign-in created that other user and it was never used. Then the other user is absorbed. One transaction
moves its identities to the linking user and turns it into a tombstone, and a job removes the tombstone. The sign-up credits of the
absorbed user stay in its own ledger. So the credit rules hold for both users, and nobody gets sign-up credits twice.

A user was never used if all of these hold. The ledger has only the sign-up entry, and no credits are on hold: money_version counts
every change of either. The user has no preset, no like and no name. The nickname, the avatar image and the permission never
changed (update_time). All of this is on the user's own item, so it is a condition of the transaction. Chats are looked up before
the transaction. A chat that the same person opens on another device at that moment is removed with the tombstone.

Linking requires that the session of the request has not ended at the write. Signing out and a new password raise token_version,
or take the session's id away, and the write checks both. The user's WeChat identities (wechat_keys) must not have changed either,
so only one of two simultaneous links succeeds.
"""

from pynamodb.expressions.condition import Condition

from aideer.accounts import users, wechat_users
from aideer.billing import counters
from aideer.chats import likes
from aideer.core import clock
from aideer.core.errors import BadRequest, Conflict, InvalidToken, Unauthorized
from aideer.data import jobs, lookup
from aideer.data.models import Chat, Identity, User
from aideer.data.transactions import Refused, Transaction
from aideer.providers import wechat
from aideer.providers.wechat import Person
from aideer.schemas import users as schemas
from aideer.security import auth, password_hashing, rate_limits

MOST_ABSORBED = 50
"""The most identities that are moved: a transaction holds 100 items."""
REMOVED_AFTER_SECONDS = 60
"""The same delay as in deletion.py, for the same kind of tombstone: longer than any request lasts."""

_GUESSES = frozenset(
    {"username_taken", "wechat_taken", "wechat_code_invalid", "wechat_code_used", "wechat_user_blocked"}
)
"""The errors that count as guesses: they concern other users' names and accounts, or WeChat's code.

A conflict with the user's own identities is no guess.
"""


def link_wechat(user: User, code: str) -> schemas.UserResponse:
    """Link the WeChat account of a mini program's code to the user. Repeating it changes nothing.

    Raises Conflict if the account belongs to a user that has been used, or if the user has another WeChat account. Raises
    BadRequest if WeChat refuses the code, and the errors of a WeChat sign-in.
    """
    with rate_limits.count_attempt("link", user.id, guesses=_GUESSES):
        person = _person(code)
        linked = wechat_users.retry_while_contended(lambda: _link(user, person))
    return users.to_response(linked)


def link_password(user: User, username: str, password: str) -> schemas.UserResponse:
    """Link a name and a password to the user.

    Raises Conflict if the user has a password or another name, BadRequest if another user has the name, and TooManyRequests.
    """
    password_hashing.require_good(password)
    rate_limits.count("hash", user.id)
    with rate_limits.count_attempt("link", user.id, guesses=_GUESSES):
        password_hash = password_hashing.hash_password(password)  # slow on purpose, so it runs before anything is read
        linked = wechat_users.retry_while_contended(lambda: _name(user, username, password_hash))
    return users.to_response(linked)


def _person(code: str) -> Person:
    try:
        return wechat.exchange_mini_program_code(code)
    except Unauthorized as error:
        # Not a 401: the token is valid, and the client would refresh it and send the used code once more.
        if error.code == "wechat_code_used":
            raise BadRequest("wechat_code_used", "This code was used before. Get a new code.") from None
        raise BadRequest(
            "wechat_code_invalid", "WeChat does not accept this code, or it has expired. Get a new code."
        ) from None


def _link(caller: User, person: Person) -> User | None:
    user = _reread(caller)
    identity, union = wechat_users.find_identities(person)
    owners = {found.user_id for found in (identity, union) if found} - {user.id}
    if not owners:
        if identity is None:
            _require_same_account(user, person)
        wechat_users.join_identities(user, person, identity, union)
        return _reread(caller)
    if len(owners) > 1:
        raise _wechat_taken()
    owner = wechat_users.get_living_user(
        next(found for found in (identity, union) if found and found.user_id in owners)
    )
    if owner is not None:
        if identity is None or identity.user_id != user.id:
            _require_same_account(user, person)
        _absorb(owner, user)
    return None  # retry: no other user has it now


def _require_same_account(user: User, person: Person) -> None:
    """Require that an openid that is new to this user is of the WeChat account that the user has, if any.

    Raises Conflict if it is of another account.
    """
    keys = user.wechat_keys or set()
    if person.unionid and wechat_users.union_key(person.unionid) in keys:
        return
    for key in sorted(keys):
        known = wechat_users.find_identity(key)
        # A website's openid without a unionid may belong to any account. Another unionid or another mini program's openid is
        # another account.
        other_union = key.startswith(wechat_users.union_key("")) and person.unionid
        if known and (known.session_key or other_union):
            raise Conflict("wechat_already_linked", "You sign in with another WeChat account.")


def _absorb(other: User, user: User) -> None:
    """Move the identities of a user that was never used to `user`. Raises Conflict if `other` was used."""
    keys = other.wechat_keys or set()
    if not _is_unused(other) or not 0 < len(keys) <= MOST_ABSORBED:
        raise _wechat_taken()
    transaction = Transaction()
    transaction.update(
        "other",
        User(other.id),
        [
            User.deleted.set(True),
            *auth.end_sessions(),
            User.update_time.set(clock.timestamp()),
            User.wechat_keys.remove(),
            User.list_shard.remove(),
        ],
        _require_unused(other) & (User.wechat_keys == keys),
    )
    for key in sorted(keys):
        transaction.update("identity", Identity(key), [Identity.user_id.set(user.id)], Identity.user_id == other.id)
    transaction.update("user", User(user.id), [User.wechat_keys.add(keys)], wechat_users.unchanged_since_read(user))
    counters.count_user(transaction, deleted=True)
    jobs.enqueue_in(transaction, "user", REMOVED_AFTER_SECONDS, user_id=other.id)
    transaction.commit()


def _is_unused(other: User) -> bool:
    if other.username or other.avatar or other.money_version or other.preset_count or other.permission != auth.USER:
        return False
    if other.update_time != other.create_time or other.like_count:
        return False
    if other.like_count is None and likes.has_any(other.id):  # release 0.1 did not count likes
        return False
    return next(iter(Chat.by_create_time.query(other.id, limit=1)), None) is None


def _require_unused(other: User) -> Condition:
    condition: Condition = (
        User.id.exists()
        & User.deleted.does_not_exist()
        & User.username.does_not_exist()
        & User.avatar.does_not_exist()
        & (User.permission == auth.USER)
        & (User.money_version == 0)
        & (User.preset_count == 0)
        & (User.update_time == other.update_time)
        & lookup.unchanged(User.like_count, other.like_count)
    )
    return condition


def _name(caller: User, username: str, password_hash: str) -> User | None:
    user = _reread(caller)
    key = users.password_key(username)
    found = wechat_users.find_identity(key)
    if found and found.user_id == user.id and found.password_hash == password_hash:
        return user  # this same request did it, and its response was lost
    _require_no_password(user, key)
    if found and found.user_id != user.id:
        raise BadRequest("username_taken", "This name is taken.")
    transaction = Transaction()
    if found:
        unset = (Identity.user_id == user.id) & Identity.password_hash.does_not_exist()
        transaction.update("identity", Identity(key), [Identity.password_hash.set(password_hash)], unset)
    else:
        identity = Identity(key, user_id=user.id, password_hash=password_hash)
        transaction.put("identity", identity, Identity.key.does_not_exist())
    reserved = users.reserve_in(transaction, user, username)
    transaction.update(
        "user",
        User(user.id),
        [User.username.set(username), User.update_time.set(clock.timestamp()), *reserved],
        wechat_users.unchanged_since_read(user)
        & lookup.unchanged(User.username, user.username)
        & lookup.unchanged(User.name_keys, user.name_keys),
    )
    try:
        transaction.commit()
    except Refused as refused:
        if refused.steps == {"new name"}:
            raise BadRequest("username_taken", "This name is taken.") from None
        raise
    return _reread(caller)


def _require_no_password(user: User, key: str) -> None:
    if user.username is None:
        return
    own = wechat_users.find_identity(users.password_key(user.username))
    if own and own.password_hash:
        raise Conflict("password_already_linked", "You sign in with a name and a password already.")
    if users.password_key(user.username) != key:
        raise Conflict("other_username", "You have another username. Send that one, or change your username first.")


def _reread(caller: User) -> User:
    """Return the caller as stored now. Raises InvalidToken if the caller is gone or their session has ended."""
    user = lookup.find(User, caller.id)
    if user is None or not auth.is_session_open(user, caller.token_version, caller.session_id):
        raise InvalidToken
    user.session_id = caller.session_id
    return user


def _wechat_taken() -> Conflict:
    return Conflict("wechat_taken", "This WeChat account belongs to another user, who has used it.")
