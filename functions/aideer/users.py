"""Users: how one comes to be, and how they are shown.

A user and a first way to sign in are made in one transaction, so there is never one without the other. A name is taken in all its
spellings: its identity's key is the name under NFKC and case folding (Unicode Standard, section 3.13, D146).
"""

import unicodedata

from pynamodb.expressions.update import Action

from aideer import auth, clock, credits, passwords, settings
from aideer.contract import users as contract
from aideer.errors import BadRequest, Busy, Forbidden
from aideer.models import Identity, User, new_id
from aideer.transactions import Refused, Transaction

_ATTEMPTS = 5


def sign_up(new: contract.NewUser) -> contract.User:
    """Make a user who signs in with a password.

    Raises Forbidden where an administrator is asked for, and BadRequest where the name is taken.
    """
    if new.permission >= auth.ADMIN:
        raise Forbidden("not_admin", "Nobody signs up as an administrator.")
    try:
        return view(_create(new.username, new.nickname or new.username, new.password, new.permission))
    except Refused:
        raise BadRequest("username_taken", "This name is taken.") from None


def make_admin(username: str, password: str) -> User:
    """Make an administrator of this name and password, of a new user or of the one who has the name already.

    Doing it again changes nothing; another password than before ends all of the user's sessions.
    """
    for _ in range(_ATTEMPTS):
        try:
            identity = Identity.get(password_key(username), consistent_read=True)
        except Identity.DoesNotExist:
            identity = None
        try:
            if identity is None:
                return _create(username, username, password, auth.ADMIN)
            return _promote(identity, password)
        except Refused:  # somebody else had a hand in it: look again
            continue
    raise Busy


def password_key(username: str) -> str:
    """The key of the identity that signs in with this name."""
    folded = unicodedata.normalize("NFKC", username).casefold()
    return f"password#{unicodedata.normalize('NFKC', folded).strip()}"  # stripped last: NFKC makes spaces of its own


def view(user: User) -> contract.User:
    """A user as shown to themselves."""
    return contract.User(
        id=user.id,
        username=user.username,
        nickname=user.nickname,
        permission=user.permission,
        avatar=f"/api/v1/users/{user.id}/avatar" if user.avatar else None,
        credits_left=user.credits,
        credits_held=credits.credits_held(user),
        create_time=user.create_time,
        update_time=user.update_time,
    )


def _create(username: str, nickname: str, password: str, permission: int) -> User:
    password_hash = passwords.hashed(password)  # slow on purpose, and so before the transaction
    now = clock.timestamp()
    user = User(new_id(), username=username, nickname=nickname, permission=permission, create_time=now, update_time=now)
    identity = Identity(password_key(username), user_id=user.id, password_hash=password_hash)
    credits.sign_up(user, identity, settings.SIGNUP_CREDITS)
    return user


def _promote(identity: Identity, password: str) -> User:
    user = User.get(identity.user_id, consistent_read=True)
    same_password = passwords.matches(identity.password_hash, password)
    if same_password and user.permission == auth.ADMIN:
        return user
    transaction = Transaction()
    actions: list[Action] = [User.permission.set(auth.ADMIN), User.update_time.set(clock.timestamp())]
    if not same_password:
        actions.append(User.token_version.add(1))
        transaction.update(
            "identity",
            Identity(identity.key),
            [Identity.password_hash.set(passwords.hashed(password))],
            (Identity.user_id == user.id) & (Identity.password_hash == identity.password_hash),
        )
    transaction.update(
        "user", User(user.id), actions, User.deleted.does_not_exist() & (User.token_version == user.token_version)
    )
    transaction.commit()
    return User.get(user.id, consistent_read=True)
