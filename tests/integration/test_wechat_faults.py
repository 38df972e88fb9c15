"""Signing in by WeChat, and linking, with AWS calls broken one by one: whoever tries again gets there, as one user.

Of each scenario some calls, in some of the ways; with EVERY_FAULT=1 all of them, in all ways (some minutes).
"""

import dataclasses
import os
import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, ClassVar
from unittest import mock

import pytest

from aideer.accounts import login_tickets
from aideer.core import settings
from aideer.data.models import CreditEntry, User
from local.simulators.wechat import Server, openid, unionid
from tests.chaos.fake_time import hurried
from tests.chaos.fault_injection import FAULTS, Abandoned, Call, Fault, Wire
from tests.integration.test_linking import link, link_password, name, owner
from tests.integration.test_wechat import refresh, sign_in, signed_in, somebody
from tests.integration.test_wechat_login import begun, callback, come_back, exchange
from tests.support import Answer, Api, check_rules, make_person

CASES = 6
"""Of each scenario. Which ones is the same in every run."""


class Scenario:
    """Something that a client does until it is told that it is done."""

    keys_web: ClassVar[bool] = False
    """Whether they come by the website too."""

    def __init__(self, api: Api, weixin: Server) -> None:
        self.api, self.weixin, self.who = api, weixin, somebody()
        self.prepare()

    def prepare(self) -> None:
        """Before anything is broken."""

    def act(self) -> Answer:
        raise NotImplementedError

    def check(self) -> None:
        """All that this person is belongs to one living user, who was welcomed once."""
        keys = {f"wechat#{openid(self.who)}", f"wechat-union#{unionid(self.who)}"}
        if self.keys_web:
            keys.add(f"wechat#{openid(self.who, 'web')}")
        [user_id] = {owner(key) for key in keys}
        user = User.get(user_id, consistent_read=True)
        assert not user.deleted
        assert user.wechat_keys == keys
        assert [other.id for other in User.scan(User.wechat_keys.contains(min(keys)), consistent_read=True)] == [
            user_id
        ]
        assert len(list(CreditEntry.query(user_id, consistent_read=True))) == 1
        assert signed_in(self.api, self.weixin, self.who).id == user_id


class FirstSignIn(Scenario):
    def act(self) -> Answer:
        return sign_in(self.api, self.weixin.code(self.who))


class Renewal(Scenario):
    def prepare(self) -> None:
        signed_in(self.api, self.weixin, self.who)
        self.weixin.invalidate(self.who)

    def act(self) -> Answer:
        return sign_in(self.api, self.weixin.code(self.who))


class WebsiteAfterMiniProgram(Scenario):
    keys_web = True

    def prepare(self) -> None:
        signed_in(self.api, self.weixin, self.who)
        self.state, self.cookie = begun(self.api)

    def act(self) -> Answer:
        return callback(self.api, self.weixin.code(self.who, "web"), self.state, self.cookie)


class Refresh(Scenario):
    def prepare(self) -> None:
        self.token = signed_in(self.api, self.weixin, self.who).refresh_token

    def act(self) -> Answer:
        return refresh(self.api, self.token)


class Link(Scenario):
    def prepare(self) -> None:
        self.me = make_person()

    def act(self) -> Answer:
        return link(self.api, self.me, self.weixin.code(self.who))

    def check(self) -> None:
        super().check()
        check_rules(self.me)
        assert owner(f"wechat#{openid(self.who)}") == self.me.id


class Absorb(Link):
    def prepare(self) -> None:
        super().prepare()
        self.other = signed_in(self.api, self.weixin, self.who)

    def check(self) -> None:
        super().check()
        check_rules(self.other)
        assert self.other.user.deleted


class LinkPassword(Scenario):
    def prepare(self) -> None:
        self.me, self.name = signed_in(self.api, self.weixin, self.who), name()

    def act(self) -> Answer:
        return link_password(self.api, self.me, self.name)

    def check(self) -> None:
        super().check()
        assert owner(f"password#{self.name}") == self.me.id
        assert self.me.user.username == self.name


class Ticket(Scenario):
    """Whoever is not told has lost it, and signs in once more: it is never good twice."""

    given = 0

    def prepare(self) -> None:
        self.me = signed_in(self.api, self.weixin, self.who)
        self.ticket = login_tickets.issue(self.me.user, openid(self.who))

    def act(self) -> Answer:
        answer = exchange(self.api, self.ticket)
        self.given += answer.status == 200
        if answer.json.get("code") != "ticket_invalid":
            return answer
        self.ticket = login_tickets.issue(self.me.user, openid(self.who))
        return exchange(self.api, self.ticket)

    def check(self) -> None:
        super().check()
        assert self.given <= 1
        assert exchange(self.api, self.ticket).status == 401


class TicketForAPage(WebsiteAfterMiniProgram):
    def act(self) -> Answer:
        with mock.patch.object(settings, "WECHAT_LOGIN_PAGE", "https://app.test"):
            answer = come_back(self.api, self.weixin, self.who)
        # The page is told of the refusal. Its person then begins anew.
        error = answer.headers.get("location", "").partition("#error=")[2]
        return dataclasses.replace(answer, status=503 if error == "busy" else 500) if error else answer


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with hurried(), Wire().in_place() as wire:
        yield wire


def run(
    kind: type[Scenario], api: Api, weixin: Server, wire: Wire, fault: Fault | None, call: Call | None
) -> list[Call]:
    wire.arm()
    scenario: Any = kind(api, weixin)
    wire.arm(fault, call)
    answers = []
    with suppress(Abandoned):
        answers.append(scenario.act())
    calls = wire.calls
    wire.arm()
    while not answers or answers[-1].status == 503:
        assert len(answers) < 3
        answers.append(scenario.act())
    assert answers[-1].status in (200, 303), answers
    scenario.check()
    return calls


@pytest.mark.parametrize("kind", [*Scenario.__subclasses__(), Absorb, TicketForAPage], ids=lambda kind: kind.__name__)
def test_nobody_is_lost_and_nobody_made_twice_whatever_breaks(
    kind: type[Scenario], api: Api, weixin: Server, wire: Wire
) -> None:
    calls = run(kind, api, weixin, wire, None, None)
    cases = [(fault, call) for call in calls for fault in FAULTS if fault.applies(call)]
    if "EVERY_FAULT" not in os.environ:
        cases = random.Random(kind.__name__).sample(cases, CASES)
    for fault, call in cases:
        try:
            run(kind, api, weixin, wire, fault, call)
        except AssertionError as error:
            raise AssertionError(f"{call}; {fault.name}: {error}") from error
