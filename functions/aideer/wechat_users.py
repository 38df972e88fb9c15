"""Whose an openid is. Everybody whom WeChat vouches for is exactly one user, who is made at first sight.

An identity `wechat#<openid>` names its user, and `wechat-union#<unionid>` the user of all openids of one person. Both are made
with, or joined to, a user in one transaction that also notes their keys on the user (wechat_keys), so deletion finds them all, and
what a refusal means is looked up anew: two who come at once end up as the same user.

An openid that has a user keeps it: where its unionid turns out to be another user's (the applications were bound to one account
after both had come), nobody's things are moved unasked. Linking can join the two, where one of them was never used.
"""

import random
import secrets
import time
from collections.abc import Callable

from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action

from aideer import auth, clock, credits, settings
from aideer.errors import Busy
from aideer.models import Identity, User, new_id
from aideer.transactions import PATIENCE_SECONDS, Refused, Transaction
from aideer.wechat import Person

_ALPHABET = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"


def user_of(person: Person) -> User:
    """The user who signs in as this person, made if there is none; what WeChat said anew is kept."""
    return retried(lambda: _user_of(person))


def retried(attempt: Callable[[], User | None]) -> User:
    """What an attempt comes to that is made again where others were in its way. Raises Busy where they are for too long."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    pause = 0.01
    while time.monotonic() < give_up_at:
        try:
            if user := attempt():
                return user
        except Refused:
            pass
        time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
        pause = min(pause * 2, 0.5)
    raise Busy


def key(openid: str) -> str:
    """The key of the identity of an openid."""
    return f"wechat#{openid}"


def union_key(unionid: str) -> str:
    """The key of the identity of a unionid."""
    return f"wechat-union#{unionid}"


def identities(person: Person) -> tuple[Identity | None, Identity | None]:
    """The identities of a person's openid and of their unionid, as far as there are any."""
    return find(key(person.openid)), find(union_key(person.unionid)) if person.unionid else None


def find(identity_key: str) -> Identity | None:
    """An identity."""
    try:
        return Identity.get(identity_key, consistent_read=True)
    except Identity.DoesNotExist:
        return None


def living(identity: Identity) -> User | None:
    """The user of an identity, unless they are gone: then the identity goes too, as the deletion would have it."""
    try:
        user = User.get(identity.user_id, consistent_read=True)
    except User.DoesNotExist:
        user = None
    if user is not None and not user.deleted:
        return user
    transaction = Transaction()
    # Checked together: a user who is just being made may be a moment later to be seen than their identity.
    gone = User.id.does_not_exist() | (User.deleted == True)  # noqa: E712 - a condition
    transaction.check("user", User, identity.user_id, None, gone)
    transaction.delete("identity", Identity(identity.key), Identity.user_id == identity.user_id)
    transaction.commit()
    return None


def join(user: User, person: Person, identity: Identity | None, union: Identity | None) -> None:
    """Have the user be this person; both identities are theirs, or not there. Raises Refused where that has changed.

    The user must still have the sessions and the keys with which they were read: who has ended their sessions meanwhile gets no new
    way in, and of two accounts that are linked at once one is. Writes only what is new, so that who signs in again and again costs
    a read.
    """
    transaction, keys = Transaction(), set()
    if identity is None:
        transaction.put("identity", _identity(user, person), Identity.key.does_not_exist())
        keys.add(key(person.openid))
    elif news := _news(person, identity):
        transaction.update("identity", Identity(identity.key), news, Identity.user_id == user.id)
    if person.unionid and union is None:
        transaction.put("union", _union(user, person.unionid), Identity.key.does_not_exist())
        keys.add(union_key(person.unionid))
    elif union is not None and identity is None:
        transaction.check("union", Identity, union.key, None, Identity.user_id == user.id)
    if keys:
        transaction.update("user", User(user.id), [User.wechat_keys.add(keys)], as_read(user))
    if transaction.has_steps:
        transaction.commit()


def as_read(user: User) -> Condition:
    """That a user is there, with the sessions and the keys with which they were read."""
    condition: Condition = (
        User.id.exists()
        & User.deleted.does_not_exist()
        & (User.token_version == user.token_version)
        & (User.wechat_keys == user.wechat_keys if user.wechat_keys else User.wechat_keys.does_not_exist())
    )
    return condition


def _user_of(person: Person) -> User | None:
    identity, union = identities(person)
    known = identity or union
    if known is None:
        return _register(person)
    user = living(known)
    if user is not None:
        join(user, person, identity, union)
    return user


def _register(person: Person) -> User:
    now = clock.timestamp()
    user = User(
        new_id(),
        nickname="微信用户" + "".join(secrets.choice(_ALPHABET) for _ in range(6)),
        permission=auth.USER,
        wechat_keys={key(person.openid)},
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
    return Identity(key(person.openid), user_id=user.id, session_key=person.session_key, unionid=person.unionid)


def _union(user: User, unionid: str) -> Identity:
    return Identity(union_key(unionid), user_id=user.id)


def _news(person: Person, identity: Identity) -> list[Action]:
    news: list[Action] = []
    if person.session_key and person.session_key != identity.session_key:
        news += [Identity.session_key.set(person.session_key), Identity.checked_at.remove()]
    if person.unionid and person.unionid != identity.unionid:
        news.append(Identity.unionid.set(person.unionid))
    return news
