"""The users of openids. Each person that WeChat confirms is exactly one user, and the first sign-in makes this user.

An identity `wechat#<openid>` names its user. An identity `wechat-union#<unionid>` names the user of all openids of one person. One
transaction makes both with a user, or joins them to one. It also notes their keys on the user (wechat_keys), so that deletion finds
all of them. After a refusal, the identities are read anew. So two sign-ins at the same moment end up as the same user.

An openid that has a user keeps it. Its unionid may turn out to belong to another user, if the applications were bound to one
account after both users had come. Then no user's data is moved unasked. Linking can join the two users if one of them was never
used.
"""

import random
import secrets
import time
from collections.abc import Callable

from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action

from aideer.billing import credits
from aideer.core import clock, settings
from aideer.core.errors import Busy
from aideer.data import lookup
from aideer.data.base import new_id
from aideer.data.models import Identity, User
from aideer.data.retry import attempts
from aideer.data.transactions import Refused, Transaction
from aideer.providers.wechat import Person
from aideer.security import auth

_ALPHABET = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"


def get_or_create(person: Person) -> User:
    """Return the user that signs in as this person, and make one if there is none. New data from WeChat is stored."""
    return retry_while_contended(lambda: _user_of(person))


def retry_while_contended(attempt: Callable[[], User | None]) -> User:
    """Return the result of an attempt, which is repeated if other requests were in its way. Raises Busy if this takes too long."""
    pause = 0.01
    for _ in attempts():
        try:
            if user := attempt():
                return user
        except Refused:
            pass
        time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
        pause = min(pause * 2, 0.5)
    raise Busy


def openid_key(openid: str) -> str:
    """Return the key of an openid's identity."""
    return f"wechat#{openid}"


def union_key(unionid: str) -> str:
    """Return the key of a unionid's identity."""
    return f"wechat-union#{unionid}"


def find_identities(person: Person) -> tuple[Identity | None, Identity | None]:
    """Return the identities of a person's openid and unionid, or None for each that does not exist."""
    return find_identity(openid_key(person.openid)), find_identity(
        union_key(person.unionid)
    ) if person.unionid else None


def find_identity(identity_key: str) -> Identity | None:
    """Return an identity, or None if there is none."""
    return lookup.find(Identity, identity_key)


def get_living_user(identity: Identity) -> User | None:
    """Return the user of an identity. If the user is gone, delete the identity, as the deletion would, and return None."""
    user = lookup.find(User, identity.user_id)
    if user is not None and not user.deleted:
        return user
    transaction = Transaction()
    # Checked in the same transaction: a user that is just being made may become visible a moment after the identity.
    gone = User.id.does_not_exist() | (User.deleted == True)  # noqa: E712 - a condition
    transaction.check("user", User(identity.user_id), gone)
    transaction.delete("identity", Identity(identity.key), Identity.user_id == identity.user_id)
    transaction.commit()
    return None


def join_identities(user: User, person: Person, identity: Identity | None, union: Identity | None) -> None:
    """Join this person's identities to the user. Each must belong to the user already, or not exist yet.

    The user must still have the sessions and the keys with which it was read. So a user that has ended its sessions meanwhile gets
    no new way to sign in, and of two accounts linked at once only one is linked. Only changes are written, so a repeated sign-in
    costs one read. Raises Refused if any of this has changed.
    """
    transaction, keys = Transaction(), set()
    if identity is None:
        transaction.put("identity", _identity(user, person), Identity.key.does_not_exist())
        keys.add(openid_key(person.openid))
    elif news := _changes(person, identity):
        transaction.update("identity", Identity(identity.key), news, Identity.user_id == user.id)
    if person.unionid and union is None:
        transaction.put("union", _union(user, person.unionid), Identity.key.does_not_exist())
        keys.add(union_key(person.unionid))
    elif union is not None and identity is None:
        transaction.check("union", Identity(union.key), Identity.user_id == user.id)
    if keys:
        transaction.update("user", User(user.id), [User.wechat_keys.add(keys)], unchanged_since_read(user))
    if transaction.has_steps:
        transaction.commit()


def unchanged_since_read(user: User) -> Condition:
    """Return the condition that a user exists, with the sessions and the keys with which it was read.

    If the user was read for a session, that session must go on.
    """
    condition: Condition = (
        User.id.exists()
        & User.deleted.does_not_exist()
        & (User.token_version == user.token_version)
        & (User.wechat_keys == user.wechat_keys if user.wechat_keys else User.wechat_keys.does_not_exist())
    )
    return condition & User.sessions.contains(user.session_id) if user.session_id else condition


def _user_of(person: Person) -> User | None:
    identity, union = find_identities(person)
    known = identity or union
    if known is None:
        return _register(person)
    user = get_living_user(known)
    if user is not None:
        join_identities(user, person, identity, union)
    return user


def _register(person: Person) -> User:
    now = clock.timestamp()
    user = User(
        new_id(),
        nickname="微信用户" + "".join(secrets.choice(_ALPHABET) for _ in range(6)),
        permission=auth.USER,
        wechat_keys={openid_key(person.openid)},
        create_time=now,
        update_time=now,
    )
    others = []
    if person.unionid:
        others.append(_union(user, person.unionid))
        user.wechat_keys.add(union_key(person.unionid))
    credits.sign_up(user, _identity(user, person), settings.SIGNUP_CREDITS, *others)
    return user


def _identity(user: User, person: Person) -> Identity:
    return Identity(openid_key(person.openid), user_id=user.id, session_key=person.session_key, unionid=person.unionid)


def _union(user: User, unionid: str) -> Identity:
    return Identity(union_key(unionid), user_id=user.id)


def _changes(person: Person, identity: Identity) -> list[Action]:
    news: list[Action] = []
    if person.session_key and person.session_key != identity.session_key:
        news += [Identity.session_key.set(person.session_key), Identity.checked_at.remove()]
    if person.unionid and person.unionid != identity.unionid:
        news.append(Identity.unionid.set(person.unionid))
    return news
