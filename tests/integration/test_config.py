"""The configuration: what a front end begins with, what administrators set, and the first public preset."""

import gzip
import importlib
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from aideer import __version__
from aideer.accounts import public_config
from aideer.billing import pricing
from aideer.chats import configuration, first_preset
from aideer.chats.configuration import Configuration
from aideer.core import aws, clock, settings
from aideer.data.models import AuditRecord, Preset, Record
from aideer.security import limits
from tests import faults, prices
from tests.embedded_aws import empty_tables
from tests.support import Person, make_chat

KEY = ("configuration", "current")


@pytest.fixture(autouse=True)
def fresh():
    """No configuration, and a process that knows none."""
    Record(*KEY).delete()
    public_config.forget()
    yield
    public_config.forget()


def get(api, **more):
    return api("config.get", "GET", "/config", **more)


def set_config(api, admin, body, version: int | str = "*"):
    public_config.forget()
    return api("admin.set_config", "PUT", "/admin/config", json=body, user=admin, headers={"If-Match": f'"{version}"'})


def make_preset(api, admin: Person, **fields: Any) -> str:
    body = {"title": "Deer", "visibility": "public", "parameters": {"model": "qwen-plus"}, **fields}
    made = api("presets.create", "POST", "/presets", json=body, user=admin)
    assert made.status == 200
    return str(made.json["id"])


def make_admin():
    name = f"boss{uuid4().hex[:8]}"
    return importlib.import_module("operations.make_admin").handler({"username": name, "password": "admin123"}, None)


# --- what a front end begins with


def test_a_front_end_needs_no_token_and_no_configuration(api):
    answer = get(api)
    assert answer.status == 200
    shown = answer.json
    assert (shown["version"], shown["default_preset"], shown["announcement"]) == (__version__, None, None)
    assert shown["sign_in"]["password"] is True
    assert shown["limits"]["open_tasks"] == settings.OPEN_TASKS
    assert shown["limits"]["rates"].keys() == limits.REFUSALS.keys()
    assert shown["limits"]["rates"]["answer"] == limits.LIMITS["answer"]._asdict()


def test_a_file_at_its_limits_is_taken_and_one_beyond_is_refused(api, person):
    most, me = get(api).json["limits"], person()

    def create(**changed):
        file = {"name": "deer", "type": "image/png", "size": most["upload_bytes"]} | changed
        return api("uploads.create", "POST", "/uploads", json=file, user=me).status

    assert [create(type=media_type) for media_type in most["upload_types"]] == [200] * len(most["upload_types"])
    assert create(size=most["upload_bytes"] + 1) == 413
    assert create(type="image/tiff") == 415


def test_tags_at_their_limits_are_taken_and_those_beyond_are_refused(api, person):
    most, me = get(api).json["limits"], person()
    chat = make_chat(me)

    def change(tags):
        return api("chats.update", "PUT", f"/chats/{chat.id}", json={"tags": tags}, user=me).status

    assert change([f"tag {n}" for n in range(most["tags"])]) == 200
    assert change([f"tag {n}" for n in range(most["tags"] + 1)]) == 422
    assert change(["a" * most["tag_characters"]["most"]]) == 200
    assert change(["a" * (most["tag_characters"]["most"] + 1)]) == 422


def test_its_models_are_those_of_the_prices(api):
    listed = api("prices.list", "GET", "/prices").json
    shown = get(api).json
    assert shown["models"] == listed["models"]
    assert (shown["price_version"], shown["per"]) == (listed["version"], listed["per"])


def test_its_stream_base_is_that_of_a_session(api, person, monkeypatch):
    monkeypatch.setattr(settings, "STREAM_BASE_URL", "https://stream.example.com")
    me = person()
    form = {"grant_type": "password", "username": me.username, "password": me.password}
    session = api("session.create", "POST", "/session/oauth2/token", form=form).json
    assert get(api).json["stream_base"] == session["stream_base"] == "https://stream.example.com"


def test_where_nothing_streams_there_is_no_stream_base(api, monkeypatch):
    monkeypatch.setattr(settings, "STREAM_BASE_URL", "https://api.example.com")
    monkeypatch.setattr(settings, "STREAM_PATH", "poll")
    assert get(api).json["stream_base"] is None


@pytest.mark.parametrize(
    ("origin", "told"),
    [("https://abc.lambda-url.us-east-1.on.aws", "https://abc.lambda-url.us-east-1.on.aws/v1"), ("", None)],
)
def test_it_tells_what_to_enter_into_clients_of_openais_api(api, monkeypatch, origin, told):
    monkeypatch.setattr(settings, "V1_BASE_URL", origin)
    assert get(api).json["v1_base"] == told


@pytest.mark.parametrize("mini_program", [("wx1", "secret"), ("wx1", ""), ("", "")])
@pytest.mark.parametrize("website", [("wx2", "secret"), ("", "secret"), ("", "")])
def test_a_sign_in_that_would_be_refused_as_not_set_up_is_not_offered(api, monkeypatch, mini_program, website):
    keys = {True: website, False: mini_program}
    monkeypatch.setattr(aws, "read_wechat_application", lambda *, website: keys[website])
    offered = get(api).json["sign_in"]
    token = api("session.wechat_token", "GET", "/session/wechat/token?code=c0de")
    page = api("session.wechat_authorize", "GET", "/session/wechat/authorize")
    assert offered["wechat_mini_program"] == (token.status != 503)
    assert offered["wechat_website"] == (page.status != 503)
    assert not offered["wechat_website_ticket"]


def test_a_page_that_receives_a_ticket_is_told_so(api, monkeypatch):
    monkeypatch.setattr(aws, "read_wechat_application", lambda *, website: ("wx", "secret"))
    monkeypatch.setattr(settings, "WECHAT_LOGIN_PAGE", "https://chat.example.com/signed-in")
    assert get(api).json["sign_in"]["wechat_website_ticket"] is True


def test_nothing_of_the_secrets_is_shown(api, monkeypatch):
    monkeypatch.setattr(aws, "read_wechat_application", lambda *, website: ("wx-application", "wx-secret"))
    shown = get(api).body
    assert "wx-application" not in shown
    assert "wx-secret" not in shown


def test_a_retired_model_is_retired_here_too(api, use_prices):
    use_prices(prices.change_model("qwen-plus", retires_on="2020-01-01"))
    models = {model["model"]: model["status"] for model in get(api).json["models"]}
    assert models["qwen-plus"] == "retired"


def test_it_may_be_kept_and_is_confirmed_by_its_tag(api, person):
    first = get(api)
    assert first.headers["cache-control"] == f"public, max-age={public_config.CACHE_SECONDS}"
    assert first.headers["vary"] == "Origin, Accept-Encoding"
    again = get(api, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status, again.body) == (304, "")
    for name in ("etag", "cache-control", "vary"):
        assert again.headers[name] == first.headers[name]
    set_config(api, person(permission=2), {"announcement": {"text": "New"}})
    changed = get(api, headers={"If-None-Match": first.headers["etag"]})
    assert changed.status == 200
    assert changed.headers["etag"] != first.headers["etag"]


def test_a_client_that_accepts_gzip_gets_a_fraction_of_the_bytes(api):
    plain = get(api)
    packed = get(api, headers={"Accept-Encoding": "gzip, deflate, br"})
    sent = packed.body.encode("latin-1")
    assert (packed.status, packed.headers["content-encoding"]) == (200, "gzip")
    assert packed.headers["content-type"] == plain.headers["content-type"] == "application/json"
    assert json.loads(gzip.decompress(sent)) == plain.json
    assert len(sent) < len(plain.body) / 3
    assert packed.headers["vary"] == plain.headers["vary"]


@pytest.mark.parametrize("accepted", ["", "identity", "*", "gzip;q=0", "br", "gzip;q=0.1, identity;q=0.5"])
def test_a_client_that_prefers_plain_text_gets_it(api, accepted):
    plain = get(api, headers={"Accept-Encoding": accepted})
    assert "content-encoding" not in plain.headers
    assert plain.json["version"] == __version__


def test_each_coding_has_its_own_tag_because_a_strong_tag_names_the_bytes(api):
    zips = {"Accept-Encoding": "gzip"}
    plain, packed = get(api), get(api, headers=zips)
    assert plain.headers["etag"] != packed.headers["etag"]
    again = get(api, headers={**zips, "If-None-Match": packed.headers["etag"]})
    assert (again.status, again.body) == (304, "")
    assert "content-encoding" not in again.headers
    assert get(api, headers={**zips, "If-None-Match": plain.headers["etag"]}).status == 200
    head = api("config.get", "HEAD", "/config", headers=zips)
    assert (head.status, head.body) == (200, "")
    assert head.headers == {**packed.headers, "content-length": str(len(packed.body.encode("latin-1")))}


def test_head_has_the_headers_of_get(api):
    answer = api("config.get", "HEAD", "/config")
    assert (answer.status, answer.body) == (200, "")
    assert answer.headers["etag"] == get(api).headers["etag"]


def test_it_costs_two_reads_and_then_none_for_some_seconds(api, person, counted, monkeypatch):
    admin = person(permission=2)
    set_config(api, admin, {"default_preset": make_preset(api, admin)})
    get(api)  # the secrets are known now
    public_config.forget()
    counted.clear()
    get(api)
    assert Counter(counted) == Counter([f"GetItem {settings.RECORDS_TABLE}", f"GetItem {settings.PRESETS_TABLE}"])
    counted.clear()
    get(api)
    assert not counted
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now + public_config.FRESH_SECONDS + 1)
    get(api)
    assert len(counted) == 2


def test_without_a_configuration_it_costs_one_read(api, counted):
    get(api)
    public_config.forget()
    counted.clear()
    get(api)
    assert counted == [f"GetItem {settings.RECORDS_TABLE}"]


# --- the default preset


def test_the_default_preset_is_shown_without_its_messages(api, person):
    admin = person(permission=2)
    secret = [{"role": "system", "content": "Top secret", "visibility": False}]
    preset = make_preset(api, admin, description="Shy", messages=secret)
    assert set_config(api, admin, {"default_preset": preset}).status == 200
    shown = get(api)
    assert shown.json["default_preset"] == {"id": preset, "title": "Deer", "description": "Shy", "model": "qwen-plus"}
    assert "Top secret" not in shown.body


@pytest.mark.parametrize("end", ["deleted", "private", "unlisted"])
def test_a_default_preset_that_is_not_public_any_more_breaks_nothing(api, person, end):
    admin = person(permission=2)
    preset = make_preset(api, admin)
    set_config(api, admin, {"default_preset": preset, "announcement": {"text": "Hello"}})
    if end == "deleted":
        api("presets.delete", "DELETE", f"/presets/{preset}", user=admin)
    else:
        api("presets.update", "PUT", f"/presets/{preset}", json={"visibility": end}, user=admin)
    public_config.forget()
    shown = get(api)
    assert (shown.status, shown.json["default_preset"]) == (200, None)
    assert shown.json["announcement"]["text"] == "Hello"
    assert api("admin.config", "GET", "/admin/config", user=admin).json["default_preset"] == preset
    assert set_config(api, admin, {"announcement": None}).status == 200


@pytest.mark.parametrize("visibility", ["private", "unlisted"])
def test_only_a_public_preset_becomes_the_default(api, person, visibility):
    admin = person(permission=2)
    refused = set_config(api, admin, {"default_preset": make_preset(api, admin, visibility=visibility)})
    assert (refused.status, refused.json["code"]) == (422, "preset_not_public")
    refused = set_config(api, admin, {"default_preset": "nothing"})
    assert (refused.status, refused.json["code"]) == (400, "preset_not_found")
    assert configuration.read() == Configuration()


def test_a_default_preset_is_removed_by_null_and_left_alone_without_a_word(api, person):
    admin = person(permission=2)
    preset = make_preset(api, admin)
    set_config(api, admin, {"default_preset": preset})
    assert set_config(api, admin, {"announcement": {"text": "Hello"}}).json["default_preset"] == preset
    assert set_config(api, admin, {"default_preset": None}).json["default_preset"] is None
    assert get(api).json["announcement"] == {"text": "Hello", "level": "info", "until": None}


# --- the announcement


def test_an_announcement_is_shown_until_its_end(api, person, monkeypatch):
    admin, ends = person(permission=2), clock.now() + 3600
    until = datetime.fromtimestamp(ends, UTC).isoformat()
    set_config(api, admin, {"announcement": {"text": "Down tonight", "level": "critical", "until": until}})
    shown = get(api).json["announcement"]
    assert (shown["text"], shown["level"]) == ("Down tonight", "critical")
    assert datetime.fromisoformat(shown["until"]).timestamp() == pytest.approx(ends)
    monkeypatch.setattr(clock, "now", lambda: ends + 1)
    assert get(api).json["announcement"] is None


def test_an_announcement_ends_while_the_process_still_knows_it(api, person, monkeypatch):
    admin, now = person(permission=2), clock.now()
    until = datetime.fromtimestamp(now + 2, UTC).isoformat()
    set_config(api, admin, {"announcement": {"text": "Soon", "until": until}})
    assert get(api).json["announcement"]["text"] == "Soon"
    monkeypatch.setattr(clock, "now", lambda: now + 3)
    assert get(api).json["announcement"] is None


@pytest.mark.parametrize(
    "announcement",
    [
        {"text": ""},
        {"text": "  "},
        {"text": "a" * 2001},
        {"text": "bell\x07"},
        {"text": "a", "level": "loud"},
        {"text": "a", "until": "soon"},
        {"level": "info"},
        {"text": "a", "html": True},
        "text",
    ],
    ids=str,
)
def test_an_announcement_that_is_none_is_refused(api, person, announcement):
    refused = set_config(api, person(permission=2), {"announcement": announcement})
    assert (refused.status, refused.json["code"]) == (422, "validation_error")


def test_a_change_of_nothing_changes_nothing(api, person, counted):
    admin = person(permission=2)
    counted.clear()
    assert set_config(api, admin, {}).json["version"] == 0
    assert not any("Transact" in call for call in counted)


# --- administrators


def test_an_administrator_reads_what_to_change_and_is_recorded(api, person):
    admin = person(permission=2)
    read = api("admin.config", "GET", "/admin/config", user=admin)
    assert (read.json["version"], read.headers["etag"]) == (0, '"0"')
    changed = set_config(api, admin, {"announcement": {"text": "One"}}, 0)
    assert (changed.status, changed.json["version"], changed.headers["etag"]) == (200, 1, '"1"')
    assert changed.json == api("admin.config", "GET", "/admin/config", user=admin).json
    records = AuditRecord.query(AuditRecord.ALL, consistent_read=True)
    assert [record.action for record in records if record.actor_id == admin.id] == ["config.change"]


def test_without_a_condition_nothing_is_changed(api, person):
    refused = api("admin.set_config", "PUT", "/admin/config", json={"announcement": None}, user=person(permission=2))
    assert (refused.status, refused.json["code"]) == (428, "if_match_required")


def test_two_administrators_do_not_overwrite_each_other(api, person):
    one, other = person(permission=2), person(permission=2)
    set_config(api, one, {"announcement": {"text": "One"}}, 0)
    refused = set_config(api, other, {"announcement": {"text": "Two"}}, 0)
    assert (refused.status, refused.json["code"]) == (412, "precondition_failed")
    assert configuration.read().announcement["text"] == "One"


def test_of_changes_at_once_one_wins(api, person):
    admins = [person(permission=2) for _ in range(4)]

    def change(n):
        wanted = configuration.ConfigChange.model_validate({"announcement": {"text": f"{n}"}})
        try:
            return configuration.change(admins[n].user, wanted, "0")
        except configuration.PreconditionFailed:
            return None

    with ThreadPoolExecutor(4) as threads:
        won = [changed for changed in threads.map(change, range(4)) if changed]
    assert len(won) == 1
    assert configuration.read() == won[0]


def test_a_change_whose_answer_was_lost_is_made_once(api, person):
    admin = person(permission=2)
    with faults.answer_lost("TransactWriteItems"):
        changed = set_config(api, admin, {"announcement": {"text": "One"}}, 0)
    assert (changed.status, changed.json["version"]) == (200, 1)


@pytest.mark.parametrize("permission", [0, 1])
def test_users_neither_read_nor_change_it(api, person, permission):
    me = person(permission)
    assert api("admin.config", "GET", "/admin/config", user=me).status == 403
    assert set_config(api, me, {"announcement": {"text": "Mine"}}).status == 403


# --- the first public preset


def public_presets() -> list[Preset]:
    return list(Preset.by_create_time.query("public"))


def test_a_first_administrator_leaves_a_preset_with_which_users_can_chat(api, person):
    empty_tables()
    made = make_admin()
    [head] = public_presets()
    assert made["preset_id"] == head.id == get(api).json["default_preset"]["id"]
    me = person()
    chat = api("chats.create", "POST", "/chats", json={"preset_id": head.id, "title": "First"}, user=me)
    assert chat.status == 200
    body = {"chat_id": chat.json["id"]}
    said = {"messages": [{"role": "user", "content": "Hello"}]}
    api("chats.append", "POST", f"/chats/{chat.json['id']}/messages", json=said, user=me)
    assert api("tasks.quote", "POST", "/tasks/quote", json=body, user=me).status == 200


def test_the_second_administrator_leaves_no_other(api):
    empty_tables()
    make_admin()
    assert "preset_id" not in make_admin()
    assert len(public_presets()) == 1


def test_who_has_a_public_preset_gets_no_other(api, person):
    empty_tables()
    make_preset(api, person(permission=2))
    assert "preset_id" not in make_admin()
    assert len(public_presets()) == 1
    assert configuration.read() == Configuration()


def test_a_first_preset_that_was_deleted_does_not_come_back(api, person):
    empty_tables()
    made = make_admin()
    api("presets.delete", "DELETE", f"/presets/{made['preset_id']}", user=person(permission=2))
    assert "preset_id" not in make_admin()
    assert not public_presets()


def test_calls_at_once_make_one_first_preset(person):
    empty_tables()
    admins = [person(permission=2).user for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        made = [preset for preset in threads.map(first_preset.provide, admins) if preset]
    assert [head.id for head in public_presets()] == made
    assert configuration.read().default_preset == made[0]


def test_a_first_preset_whose_answer_was_lost_is_made_once(person):
    empty_tables()
    admin = person(permission=2).user
    with faults.answer_lost("TransactWriteItems"):
        made = first_preset.provide(admin)
    assert [head.id for head in public_presets()] == [made]


def test_the_shipped_tables_have_a_model_for_it(person):
    for path in pricing.TABLES.glob("*.json"):
        offered = {entry["model"] for entry in json.loads(path.read_text())["models"] if entry["vision"] is False}
        assert offered & set(first_preset.MODELS), path.name


def test_without_its_models_it_takes_another_one(person, use_prices):
    empty_tables()
    use_prices(prices.change_model("qwen-plus", retires_on="2020-01-01"))
    preset = first_preset.provide(person(permission=2).user)
    assert preset
    assert Preset.get(preset, 0).parameters["model"] != "qwen-plus"
