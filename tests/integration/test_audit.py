"""The audit trail: an administrator who acts on what is another's leaves one record, and nobody else leaves any."""

from collections.abc import Callable
from urllib.parse import quote

import pytest

from aideer.accounts import users
from aideer.core import clock, settings
from aideer.data.base import new_id
from aideer.data.models import AuditRecord, CreditEntry, User
from aideer.data.transactions import Transaction
from aideer.schemas.users import UserChange
from aideer.security import audit_trail
from aideer.web import pagination
from local.simulators import wechat
from local.stack.template import Template
from tests import faults
from tests.request_samples import ROUTES, World, called, sent
from tests.route_matrix import row
from tests.support import Api, Person, make_chat

MakePerson = Callable[..., Person]

PRESET = {"title": "Deer", "parameters": {"model": "qwen-plus"}}
SILENT = {
    "admin.config": "everybody is shown it",
    "admin.audit": "to look at the trail leaves none",
    "admin.dead_letters": "ids of tasks and jobs",
    "admin.reconciliation": "ids of drifts, and sums",
    "admin.stats": "sums",
    "users.avatar_get": "pictures are shown to everybody",
    "users.unlike_preset": "one's own like",
    "users.unlike_chat": "one's own like",
    "presets.list": "what is listed has no prompts",
}
"""Calls that an administrator is answered about others, and that leave no record, with the reason."""


def concerns_others(method: str, path: str) -> bool:
    """Whether an administrator who makes this call acts on what is the owner's, or does what only administrators may."""
    cells = row(method, path).cells
    if cells.get("admin") != 200 or (cells["stranger"] == 200 and "{" not in path):
        return False
    return cells["stranger"] != 200 or "{" in path


CONCERNED = [
    (*route, module)
    for route, module in ROUTES.items()
    if row(*route).who == "access" and concerns_others(*route) and module not in SILENT
]


def records_of(admin_id: str) -> list[AuditRecord]:
    found = AuditRecord.query(AuditRecord.ALL, consistent_read=True, scan_index_forward=False)
    return [record for record in found if record.actor_id == admin_id]


@pytest.mark.parametrize(("method", "path", "module"), CONCERNED, ids=lambda part: part)
def test_an_administrator_who_acts_on_what_is_anothers_leaves_one_record(
    api: Api, weixin: wechat.Server, method: str, path: str, module: str
) -> None:
    world = World("admin", "access", weixin)
    token = world.token()
    request = sent(world, module, path)
    request.headers["X-Reason"] = quote("投诉 4711")
    assert called(api, method, path, request, token).status == 200
    [record] = records_of(world.me.id)
    assert record.reason == "投诉 4711"
    ids = {world.owner.id, *request.path.values()}
    assert {record.user_id, record.about} - {None} <= ids | {
        world.code,
        world.batch,
        world.preset,
    } or module == "codes.create"
    if "codes" not in module and module not in (
        *("users.list", "admin.set_config", "admin.feedback", "admin.redrive"),
    ):
        assert record.user_id == world.owner.id
    assert record.ttl - clock.now() == pytest.approx(settings.AUDIT_DAYS * 86400, abs=60)
    assert set(record.attribute_values) <= {
        *("list", "id", "actor_id", "action", "user_id", "about", "reason", "create_time", "ttl")
    }


@pytest.mark.parametrize(("method", "path", "module"), CONCERNED, ids=lambda part: part)
def test_nobody_who_acts_on_their_own_leaves_a_record(
    api: Api, weixin: wechat.Server, method: str, path: str, module: str
) -> None:
    world = World("owner", "access", weixin)
    request = sent(world, module, path)
    before = len(records_of(world.me.id))  # who makes a batch to be revoked is recorded
    called(api, method, path, request, world.token())
    assert len(records_of(world.me.id)) == before


def test_the_calls_that_are_looked_at_are_all_that_there_are() -> None:
    modules = {module for _, _, module in CONCERNED}
    assert {"chats.get", "chats.export", "chats.copy", "chats.update", "chats.delete", "chats.create"} <= modules
    assert {"presets.get", "presets.update", "presets.delete", "users.like_chat", "users.like_preset"} <= modules
    assert {"users.get", "users.update", "users.delete", "users.set_password", "users.grant", "users.list"} <= modules
    assert {"codes.create", "codes.list", "codes.get", "codes.delete", "codes.delete_batch"} <= modules
    assert set(SILENT) <= set(ROUTES.values())


def test_no_function_may_change_the_trail() -> None:
    allowed: dict[str, set[str]] = {}
    for name, resource in Template().document["Resources"].items():
        for policy in resource.get("Properties", {}).get("Policies", []) if isinstance(resource, dict) else []:
            for statement in policy.get("Statement", []):  # the others let a function call functions
                if "AuditTable" in str(statement["Resource"]):
                    actions = statement["Action"]
                    allowed.setdefault(name, set()).update([actions] if isinstance(actions, str) else actions)
    assert allowed.pop("AdminAuditFunction") == {"dynamodb:Query"}
    assert {action for actions in allowed.values() for action in actions} == {"dynamodb:PutItem"}


def test_no_record_no_reading(api: Api, person: MakePerson) -> None:
    admin, chat = person(permission=2), make_chat(person(), "private words")
    with faults.refused("PutItem", faults.THROTTLED, times=9):
        answer = api("chats.get", "GET", f"/chats/{chat.id}", user=admin)
    assert answer.status in (500, 503)
    assert "private words" not in answer.body


CHANGES: dict[str, tuple[str, str, str, dict[str, object] | None]] = {
    "grant": ("users.grant", "POST", "/users/{user}/credits", {"amount": 10**9, "description": "x"}),
    "grant oneself": ("users.grant", "POST", "/users/{admin}/credits", {"amount": 10**9, "description": "x"}),
    "make a code": ("codes.create", "POST", "/codes", {"value": 10**9}),
    "make a batch": ("codes.create", "POST", "/codes", {"value": 10**9, "count": 2}),
    "revoke a code": ("codes.delete", "DELETE", "/codes/{code}", None),
    "delete a chat": ("chats.delete", "DELETE", "/chats/{chat}", None),
    "change a chat": ("chats.update", "PUT", "/chats/{chat}", {"title": "mine"}),
    "copy a chat": ("chats.copy", "POST", "/chats/{chat}/copy", None),
    "change a preset": ("presets.update", "PUT", "/presets/{preset}", {"title": "mine"}),
    "delete a preset": ("presets.delete", "DELETE", "/presets/{preset}", None),
    "make a public preset": ("presets.create", "POST", "/presets", {**PRESET, "visibility": "public"}),
    "change one's own public preset": ("presets.update", "PUT", "/presets/{public}", {"title": "mine"}),
    "give a password": ("users.set_password", "PUT", "/users/{user}/password", {"new_password": "horse-staple-9"}),
    "change a user": ("users.update", "PUT", "/users/{user}", {"nickname": "mine"}),
    "delete one's own public preset": ("presets.delete", "DELETE", "/presets/{public}", None),
    "give oneself a password": (
        "users.set_password",
        "PUT",
        "/users/{admin}/password",
        {"new_password": "horse-staple-9"},
    ),
    "delete a user": ("users.delete", "DELETE", "/users/{user}", None),
}


@pytest.mark.parametrize("what", CHANGES)
def test_an_administrator_who_is_none_any_more_changes_nothing(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """They lose the permission after their request was let in, and before it writes."""
    one, other, user = person(permission=2), person(permission=2), person()
    ids = {
        "user": user.id,
        "admin": one.id,
        "chat": make_chat(user, "x").id,
        "preset": api("presets.create", "POST", "/presets", json=PRESET, user=user).json["id"],
        "public": api("presets.create", "POST", "/presets", json={**PRESET, "visibility": "public"}, user=one).json[
            "id"
        ],
        "code": api("codes.create", "POST", "/codes", json={"value": 5}, user=other).json["redeem_code"],
    }
    record_in = audit_trail.record_in

    def demoted(transaction: Transaction, actor: User, *rest: str | None, **named: str | None) -> None:
        if actor.id == one.id and one.user.permission == 2:
            users.change(other.user, one.id, UserChange(permission=1))
        record_in(transaction, actor, *rest, **named)  # type: ignore[arg-type]

    before = [record.id for record in records_of(one.id)]
    monkeypatch.setattr(audit_trail, "record_in", demoted)
    module, method, path, body = CHANGES[what]
    answer = api(module, method, path.format(**ids), json=body, user=one)
    assert (answer.status, answer.json["code"]) == (403, "not_admin")
    assert one.user.permission == 1, "they lost it meanwhile"
    assert [record.id for record in records_of(one.id)] == before
    assert not [entry for entry in CreditEntry.query(one.id) if entry.kind == "grant"]


def test_a_refused_grant_says_how_many_credits_there_are_and_leaves_a_record(api: Api, person: MakePerson) -> None:
    admin, user = person(permission=2), person(credits=7)
    body = {"amount": -8, "description": "x"}
    assert api("users.grant", "POST", f"/users/{user.id}/credits", json=body, user=admin).json["credits_left"] == 7
    assert [(record.action, record.user_id) for record in records_of(admin.id)] == [("user.read", user.id)]


def test_the_record_of_a_look_at_one_name_says_whose(api: Api, person: MakePerson) -> None:
    admin, user = person(permission=2), person()
    for name in (user.username, "nobody-of-that-name"):
        assert api("users.list", "GET", f"/users?username={name}", user=admin).status == 200
    assert [record.user_id for record in records_of(admin.id)] == [None, user.id]


def test_a_change_that_is_refused_leaves_no_record(api: Api, person: MakePerson) -> None:
    admin, chat = person(permission=2), make_chat(person(), "Hi")
    headers = {"If-Match": '"999"'}
    answer = api("chats.update", "PUT", f"/chats/{chat.id}", json={"title": "T"}, user=admin, headers=headers)
    assert answer.status == 412
    assert records_of(admin.id) == []


def test_a_public_preset_is_everybodys_and_its_changes_leave_a_record(api: Api, person: MakePerson) -> None:
    admin = person(permission=2)
    new = {"title": "P", "visibility": "public", "parameters": {"model": "qwen-plus"}}
    preset_id = api("presets.create", "POST", "/presets", json=new, user=admin).json["id"]
    for visibility in ("private", "private", "public"):
        api("presets.update", "PUT", f"/presets/{preset_id}", json={"visibility": visibility}, user=admin)
    api("presets.delete", "DELETE", f"/presets/{preset_id}", user=admin)
    actions = [record.action for record in records_of(admin.id)]
    assert actions == ["preset.delete", "preset.change", "preset.change", "preset.create"]


def test_what_a_permission_or_a_name_was_changed_by_is_told_apart(api: Api, person: MakePerson) -> None:
    admin, other = person(permission=2), person()
    for change in ({"nickname": "Fawn"}, {"permission": 0}):
        assert api("users.update", "PUT", f"/users/{other.id}", json=change, user=admin).status == 200
    assert [record.action for record in records_of(admin.id)] == ["user.permission", "user.change"]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("", None),
        ("%0a%00 ", None),
        ("line%0Atwo", "line two"),
        ("x" * 500, "x" * 200),
        ("50%", "50%"),
        ("%ff", "\ufffd"),
    ],
)
def test_a_reason_is_one_line_with_an_end(api: Api, person: MakePerson, sent: str, kept: str | None) -> None:
    admin, chat = person(permission=2), make_chat(person(), "Hi")
    api("chats.get", "GET", f"/chats/{chat.id}", user=admin, headers={"X-Reason": sent})
    [record] = records_of(admin.id)
    assert record.reason == kept


# The list


def listed(api: Api, viewer: Person, query: str = "") -> list[dict[str, str]]:
    answer = api("admin.audit", "GET", f"/admin/audit?{query}", user=viewer)
    assert answer.status == 200, answer.body
    return answer.json  # type: ignore[no-any-return]


def record(actor_id: str, user_id: str | None = None, action: str = "chat.read", ttl: float = 3600) -> str:
    id = new_id()
    AuditRecord(
        AuditRecord.ALL,
        id,
        actor_id=actor_id,
        user_id=user_id,
        action=action,
        create_time=clock.timestamp(),
        ttl=int(clock.now() + ttl),
    ).save()
    return id


def test_the_list_is_of_the_newest_first_and_can_be_narrowed(api: Api, person: MakePerson) -> None:
    viewer, admin, other, user = person(permission=2), new_id(), new_id(), new_id()
    ids = [
        record(admin, user),
        record(other, user),
        record(admin, user, "user.password"),
        record(admin, None, "codes.create"),
    ]
    expired = record(admin, user, ttl=-1)
    both = f"admin={admin}&user={user}"
    queries = [
        f"user={user}",
        f"admin={admin}",
        both,
        f"admin={admin}&action=user.password",
        f"user={user}&action=chat.read",
    ]
    found = [[one["id"] for one in listed(api, viewer, query)] for query in queries]
    assert found == [
        [ids[2], ids[1], ids[0]],
        [ids[3], ids[2], ids[0]],
        [ids[2], ids[0]],
        [ids[2]],
        [ids[1], ids[0]],
    ]
    assert listed(api, viewer, "limit=1")[0]["id"] not in (expired,)
    assert set(listed(api, viewer, f"user={user}")[0]) == {
        *("id", "admin_id", "action", "user_id", "about", "reason", "create_time")
    }


@pytest.mark.parametrize("narrowed", ["user={user}", "admin={admin}", "admin={admin}&user={user}"])
def test_pages_have_every_record_once(api: Api, person: MakePerson, narrowed: str) -> None:
    viewer, admin, user = person(permission=2), new_id(), new_id()
    ids = []
    for _ in range(7):
        ids.append(record(admin, user))
        record(new_id(), new_id())
    seen: list[str] = []
    query = f"{narrowed.format(user=user, admin=admin)}&limit=2"
    cursor = ""
    for _ in range(40):
        answer = api("admin.audit", "GET", f"/admin/audit?{query}{cursor}", user=viewer)
        seen += [one["id"] for one in answer.json]
        assert len(answer.json) <= 2
        if "x-next-cursor" not in answer.headers:
            break
        cursor = f"&cursor={answer.headers['x-next-cursor']}"
    assert seen == ids[::-1]


def test_an_old_record_is_found_behind_many_others(api: Api, person: MakePerson) -> None:
    viewer, admin = person(permission=2), new_id()

    def written(action: str) -> str:
        record = AuditRecord(AuditRecord.ALL, new_id(), actor_id=admin, action=action, ttl=int(clock.now() + 3600))
        record.create_time = clock.timestamp()
        record.save()
        return str(record.id)

    wanted = [written("user.password") for _ in range(2)]
    for _ in range(180):
        written("chat.read")
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        path = f"/admin/audit?admin={admin}&action=user.password" + (f"&cursor={cursor}" if cursor else "")
        answer = api("admin.audit", "GET", path, user=viewer)
        found += [record["id"] for record in answer.json]
        cursor = answer.headers.get("x-next-cursor")
    assert found == wanted[::-1]


def test_a_cursor_is_good_for_its_own_list_alone(api: Api, person: MakePerson) -> None:
    viewer, admin = person(permission=2), new_id()
    for _ in range(3):
        record(admin)
    cursor = api("admin.audit", "GET", f"/admin/audit?admin={admin}&limit=1", user=viewer).headers["x-next-cursor"]
    long = pagination.encode("audit None None None", ["x" * 1100])
    for query in (f"cursor={cursor}", f"admin={new_id()}&cursor={cursor}", "cursor=nothing", f"cursor={long}"):
        assert api("admin.audit", "GET", f"/admin/audit?{query}", user=viewer).json["code"] == "invalid_cursor"
    assert api("admin.audit", "GET", "/admin/audit?action=nothing", user=viewer).status == 422
