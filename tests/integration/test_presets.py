"""Presets: making, reading, changing, deleting and listing them."""

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from aideer.chats import presets
from aideer.core import clock, settings
from aideer.core.errors import NotFound
from aideer.data import transactions
from aideer.data.base import new_id
from aideer.data.models import Preset, User
from aideer.schemas.presets import PresetChange
from tests import faults, prices

HIDDEN = {"role": "system", "type": "text", "content": "The secret of the trade.", "visibility": False}
SHOWN = {"role": "assistant", "type": "text", "content": "How can I help?", "visibility": True}
BODY = {"title": "Assistant", "parameters": {"model": "qwen-plus"}}
FIELDS = {f"field_{n}": {"type": "string"} for n in range(100)}


def create(api, user, **body):
    return api("presets.create", "POST", "/presets", json={**BODY, **body}, user=user)


def get(api, user, preset_id):
    return api("presets.get", "GET", f"/presets/{preset_id}", user=user)


def update(api, user, preset_id, **body):
    return api("presets.update", "PUT", f"/presets/{preset_id}", json=body, user=user)


def delete(api, user, preset_id):
    return api("presets.delete", "DELETE", f"/presets/{preset_id}", user=user)


def list_page(api, user, query=""):
    return api("presets.list", "GET", f"/presets{query}", user=user)


def list_all(api, user, limit=3, query=""):
    """Every page's presets; checks that pages are full and that their links say the same as their cursors."""
    found, here = [], f"?limit={limit}{query}"
    while True:
        page = list_page(api, user, here)
        assert page.status == 200
        found += page.json
        cursor = page.headers.get("x-next-cursor")
        if not cursor:
            return found
        assert len(page.json) == limit
        assert f"cursor={cursor}" in page.headers["link"]
        here = f"?limit={limit}{query}&cursor={cursor}"


def shared_preset(owner_id, title="Shared", visibility="public", moment=None, **fields):
    """Straight into the table: a preset of somebody else's."""
    time = moment or clock.timestamp()
    content = {"number": 1, "type": "chat_generation", "parameters": {"model": "qwen-plus"}, "messages": []}
    head = Preset(
        new_id(),
        0,
        title=title,
        owner_id=owner_id,
        visibility=visibility,
        create_time=time,
        update_time=time,
        **content,
    )
    for name, value in fields.items():
        setattr(head, name, value)
    head.save()
    return head


@pytest.fixture
def no_public_presets():
    """Tests share one table, and public presets are everybody's."""
    with Preset.batch_write() as batch:
        for head in Preset.scan(Preset.visibility.is_in("public", "unlisted")):
            batch.delete(head)


def test_a_preset_is_made_and_read(api, person):
    me = person()
    made = create(
        api,
        me,
        title=" 翻译 ",
        description="Two\nlines",
        parameters={"model": "qwen-plus", "temperature": 0.5, "top_k": 3, "stop": ["\n\n"], "enable_search": True},
        messages=[HIDDEN, SHOWN],
    )
    assert made.status == 200
    assert made.json == {
        "id": made.json["id"],
        "owner_id": me.id,
        "version": 1,
        "title": "翻译",
        "description": "Two\nlines",
        "type": "chat_generation",
        "visibility": "private",
        "parameters": {"model": "qwen-plus", "temperature": 0.5, "top_k": 3, "stop": ["\n\n"], "enable_search": True},
        "messages": [HIDDEN, SHOWN],
        "like_count": 0,
        "create_time": made.json["create_time"],
        "update_time": made.json["create_time"],
    }
    assert get(api, me, made.json["id"]).json == made.json


def test_a_message_needs_only_a_role_and_its_text(api, person):
    made = create(api, person(), messages=[{"role": "user", "content": "Hi"}]).json
    assert made["messages"] == [{"role": "user", "type": "text", "content": "Hi", "visibility": True}]
    assert made["description"] is None


def test_what_is_read_can_be_put_back(api, person):
    me = person()
    made = create(api, me, parameters={"model": "qwen-plus", "seed": 5}, messages=[HIDDEN]).json
    fields = ("title", "description", "type", "visibility", "parameters", "messages")
    put = update(api, me, made["id"], **{name: made[name] for name in fields}).json
    assert {name: put[name] for name in fields} == {name: made[name] for name in fields}
    assert put["version"] == 2


@pytest.mark.parametrize(
    ("visibility", "owner", "other", "admin"), [("private", 200, 403, 200), ("unlisted", 200, 200, 200)]
)
def test_who_may_read_a_preset(api, person, visibility, owner, other, admin):
    me = person()
    preset_id = create(api, me, visibility=visibility).json["id"]
    assert get(api, me, preset_id).status == owner
    assert get(api, person(), preset_id).status == other
    assert get(api, person(permission=0), preset_id).status == other
    assert get(api, person(permission=2), preset_id).status == admin


def test_everybody_who_is_signed_in_reads_a_public_preset(api, person):
    preset_id = create(api, person(permission=2), visibility="public").json["id"]
    assert get(api, person(permission=0), preset_id).status == 200


@pytest.mark.parametrize("visibility", ["unlisted", "public"])
def test_hidden_messages_are_seen_only_by_the_owner_and_administrators(api, person, visibility):
    me = person()
    preset_id = create(api, me, messages=[HIDDEN, SHOWN]).json["id"]
    assert update(api, person(permission=2), preset_id, visibility=visibility).json["messages"] == [HIDDEN, SHOWN]
    assert get(api, me, preset_id).json["messages"] == [HIDDEN, SHOWN]
    for stranger in (person(), person(permission=0)):
        answer = get(api, stranger, preset_id)
        assert answer.json["messages"] == [SHOWN]
        assert HIDDEN["content"] not in answer.body + list_page(api, stranger, "?limit=100").body


def test_only_administrators_make_change_and_delete_public_presets(api, person):
    me, admin = person(), person(permission=2)
    refused = [create(api, me, visibility="public")]
    preset_id = create(api, me).json["id"]
    refused.append(update(api, me, preset_id, visibility="public"))
    assert update(api, admin, preset_id, visibility="public").status == 200
    refused += [
        update(api, me, preset_id, title="Mine"),
        update(api, me, preset_id, visibility="private"),
        delete(api, me, preset_id),
    ]
    assert {(answer.status, answer.json["code"]) for answer in refused} == {(403, "not_admin")}
    assert get(api, me, preset_id).json["version"] == 2
    assert create(api, admin, visibility="public").status == 200
    assert delete(api, admin, preset_id).status == 200


@pytest.mark.parametrize("visibility", ["private", "unlisted"])
def test_a_stranger_neither_changes_nor_deletes(api, person, visibility):
    preset_id = create(api, person(), visibility=visibility).json["id"]
    stranger = person()
    assert update(api, stranger, preset_id, title="Taken over").status == 403
    assert delete(api, stranger, preset_id).status == 403
    assert update(api, person(permission=2), preset_id, title="Moderated").json["title"] == "Moderated"


def test_a_change_leaves_what_it_does_not_name(api, person):
    me = person()
    made = create(api, me, description="About", messages=[SHOWN]).json
    changed = update(api, me, made["id"], title="Another").json
    times = {"update_time": changed["update_time"]}
    assert changed == {**made, "title": "Another", "version": 2, **times}
    assert changed["update_time"] > made["update_time"]
    assert get(api, me, made["id"]).json == changed
    assert update(api, me, made["id"], description=None).json["description"] is None
    assert update(api, me, made["id"], messages=[]).json["messages"] == []


def test_each_change_makes_a_version_and_versions_never_change(api, person):
    me = person()
    preset_id = create(api, me, messages=[HIDDEN]).json["id"]
    update(api, me, preset_id, title="Second", parameters={"model": "qwen-max"})
    update(api, me, preset_id, visibility="unlisted", messages=[])
    head, *versions = Preset.query(preset_id)
    assert [(v.version, v.number, v.title, v.parameters["model"], len(v.messages)) for v in versions] == [
        (1, 1, "Assistant", "qwen-plus", 1),
        (2, 2, "Second", "qwen-max", 1),
        (3, 3, "Second", "qwen-max", 0),
    ]
    assert (head.version, head.number, head.visibility) == (0, 3, "unlisted")
    assert all(version.owner_id is None and version.visibility is None for version in versions)


def test_many_changes_at_once_all_count(api, person):
    me = person()
    preset_id = create(api, me).json["id"]

    def change(n: int) -> int:
        return presets.update(me.user, preset_id, PresetChange(title=f"Change {n}")).version

    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(change, range(8)))
    assert sorted(numbers) == list(range(2, 10))
    head, *versions = Preset.query(preset_id)
    assert len(versions) == 9
    assert head.title == versions[-1].title


def test_a_change_and_a_like_at_once_both_count(api, person, monkeypatch):
    me = person()
    preset_id = create(api, me).json["id"]
    change = presets._change

    def liked_meanwhile(*arguments):
        Preset(preset_id, 0).update(actions=[Preset.like_count.add(1)])
        change(*arguments)

    monkeypatch.setattr(presets, "_change", liked_meanwhile)
    update(api, me, preset_id, title="Another")
    assert get(api, me, preset_id).json["like_count"] == 1


def test_a_deleted_preset_is_gone_and_its_versions_stay(api, person):
    me = person()
    preset_id = create(api, me, messages=[SHOWN]).json["id"]
    assert me.user.preset_count == 1
    answer = delete(api, me, preset_id)
    assert (answer.status, set(answer.json)) == (200, {"message"})
    assert me.user.preset_count == 0
    assert [version.version for version in Preset.query(preset_id)] == [1]
    for answer in (get(api, me, preset_id), update(api, me, preset_id, title="T"), delete(api, me, preset_id)):
        assert (answer.status, answer.json["code"]) == (404, "preset_not_found")
    assert list_page(api, me, "?limit=100").json == [] or preset_id not in list_page(api, me, "?limit=100").body


def test_an_administrator_who_deletes_counts_down_the_owner(api, person):
    me, admin = person(), person(permission=2)
    delete(api, admin, create(api, me).json["id"])
    assert (me.user.preset_count, admin.user.preset_count) == (0, 0)


def test_the_preset_of_a_user_who_is_gone_can_be_deleted(api, person):
    preset_id = shared_preset("nobody", visibility="unlisted").id
    assert delete(api, person(permission=2), preset_id).status == 200
    with pytest.raises(User.DoesNotExist):
        User.get("nobody")


def test_many_deletions_at_once_count_once(api, person):
    me = person()
    preset_id = create(api, me).json["id"]
    create(api, me)

    def attempt(_: int) -> bool:
        try:
            presets.delete(me.user, preset_id)
        except NotFound:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 1
    assert me.user.preset_count == 1


def test_one_may_have_two_hundred(api, person):
    me = person()
    kept = create(api, me).json["id"]
    me.user.update(actions=[User.preset_count.set(presets.MOST)])
    answer = create(api, me)
    assert (answer.status, answer.json["code"]) == (409, "too_many_presets")
    assert [head.id for head in Preset.by_owner.query(me.id)] == [kept]
    delete(api, me, kept)
    assert create(api, me).status == 200


@pytest.mark.parametrize(
    "preset_id", ["x", "01900000-0000-7000-8000-000000000000", "x" * 5000, "a b", "☃", "%00", "..", "' OR 1=1"]
)
def test_a_preset_that_is_not_there_is_not_found(api, person, preset_id):
    me = person()
    for answer in (get(api, me, preset_id), update(api, me, preset_id, title="T"), delete(api, me, preset_id)):
        assert answer.status == 404


@pytest.mark.parametrize(
    "parameters",
    [
        {"temperature": 0},
        {"temperature": 1.999},
        {"top_p": 1},
        {"presence_penalty": -2},
        {"presence_penalty": 2},
        {"seed": 0},
        {"seed": 2**63 - 1},
        {"top_k": 100},
        {"repetition_penalty": 0.01},
        {"max_tokens": 1},
        {"max_tokens": 32768},
        {"stop": "###"},
        {"stop": ["a", "b", "c", "d"]},
        {"enable_thinking": True, "thinking_budget": 1},
        {"enable_thinking": False},
        {"enable_search": True},
    ],
    ids=str,
)
def test_parameters_within_their_ranges_are_kept_as_they_came(api, person, parameters):
    wanted = {"model": "qwen-plus", **parameters}
    assert create(api, person(), parameters=wanted).json["parameters"] == wanted


@pytest.mark.parametrize(
    "parameters",
    [
        {"temperature": 2},
        {"temperature": -0.1},
        {"temperature": "0.5"},
        {"temperature": True},
        {"temperature": 10**400},
        {"top_p": 0},
        {"top_p": 1.01},
        {"presence_penalty": 2.01},
        {"seed": 2**63},
        {"seed": -1},
        {"seed": 1.5},
        {"top_k": 101},
        {"top_k": -1},
        {"repetition_penalty": 0},
        {"repetition_penalty": 1000},
        {"max_tokens": 0},
        {"max_tokens": 32769},
        {"max_tokens": 10**30},
        {"thinking_budget": 0},
        {"thinking_budget": 10**9},
        {"stop": ""},
        {"stop": []},
        {"stop": ["a"] * 5},
        {"stop": ["x" * 101]},
        {"stop": [1]},
        {"stop": "half\ud800"},
        {"enable_search": "yes"},
        {"enable_thinking": 1},
        {"temprature": 0.5},
        {"half\ud800": 1},
        {"model": "no-such-model"},
        {"model": ""},
        {"model": None},
        {"model": "half\ud800"},
        {"model": "qwen-max", "enable_thinking": True},
        {"model": "qwen-max", "thinking_budget": 100},
        {"model": "qwen-max", "max_tokens": 8193},
    ],
    ids=ascii,
)
def test_parameters_out_of_their_ranges_are_refused(api, person, parameters):
    me = person()
    assert create(api, me, parameters={"model": "qwen-plus", **parameters}).status == 422
    preset_id = create(api, me).json["id"]
    assert update(api, me, preset_id, parameters={"model": "qwen-plus", **parameters}).status == 422
    assert get(api, me, preset_id).json["version"] == 1


def test_null_stays_as_it_is_and_takes_the_description_away(api, person):
    me = person()
    made = create(api, me, description="About deer").json
    nothing = dict.fromkeys(("title", "type", "visibility", "parameters", "messages", "description"))
    changed = update(api, me, made["id"], **nothing).json
    assert changed.pop("description", None) is None
    kept = {name: value for name, value in made.items() if name not in ("description", "version", "update_time")}
    assert kept.items() <= changed.items()


def test_a_model_without_a_figure_for_searching_does_not_search(api, person, use_prices):
    use_prices(prices.change_model("qwen-plus", search=None))
    answer = create(api, person(), parameters={"model": "qwen-plus", "enable_search": True})
    assert (answer.status, answer.json["code"]) == (422, "search_not_supported")
    assert create(api, person(), parameters={"model": "qwen-plus", "enable_search": False}).status == 200


def test_refusals_say_why(api, person):
    me = person()
    reasons = {
        "model_not_priced": {"model": "no-such-model"},
        "model_retired": {"model": "qwen-turbo"},
        "thinking_not_supported": {"model": "qwen-max", "enable_thinking": True},
        "max_tokens_too_large": {"model": "qwen-max", "max_tokens": 8193},
        "thinking_budget_too_large": {"model": "qwen-plus", "enable_thinking": True, "thinking_budget": 81_921},
        "thinking_budget_not_supported": {"model": "glm-5.2", "enable_thinking": True, "thinking_budget": 10},
        "search_not_supported": {"model": "glm-5.2", "enable_search": True},
        "search_not_enabled": {"model": "qwen-plus", "search_options": {"forced_search": True}},
        "reasoning_effort_not_supported": {"model": "qwen-plus", "enable_thinking": True, "reasoning_effort": "low"},
        "reasoning_effort_without_thinking": {"model": "qwen3.8-max", "reasoning_effort": "low"},
        "reasoning_effort_with_budget": {
            **{"model": "qwen3.8-max", "enable_thinking": True},
            **{"reasoning_effort": "low", "thinking_budget": 10},
        },
        "response_format_not_supported": {"model": "glm-5.2", "response_format": {"type": "json_object"}},
        "response_format_with_thinking": {
            **{"model": "qwen-plus", "enable_thinking": True},
            **{"response_format": {"type": "json_object"}},
        },
        "json_not_mentioned": {"model": "qwen-plus", "response_format": {"type": "json_object"}},
    }
    mine = create(api, me, messages=[]).json
    for code, parameters in reasons.items():
        made = create(api, me, parameters=parameters, messages=[])
        assert (made.status, made.json["code"]) == (422, code)
        changed = update(api, me, mine["id"], parameters=parameters)
        assert (changed.status, changed.json["code"]) == (422, code)


def test_a_model_that_always_thinks_cannot_be_told_not_to(api, person, use_prices):
    use_prices(prices.change_model("qwen-plus", thinking="always"))
    answer = create(api, person(), parameters={"model": "qwen-plus", "enable_thinking": False})
    assert (answer.status, answer.json["code"]) == (422, "thinking_always")
    form = create(api, person(), parameters={"model": "qwen-plus", "response_format": {"type": "json_object"}})
    assert (form.status, form.json["code"]) == (422, "response_format_with_thinking")


@pytest.mark.parametrize(
    "parameters",
    [
        {"enable_search": True, "search_options": {"forced_search": True, "search_strategy": "max"}},
        {"enable_search": True, "search_options": {"enable_citation": True, "citation_format": "[ref_<number>]"}},
        {"enable_search": True, "search_options": {}},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "deer", "schema": {"type": "object"}}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "form", "schema": {"properties": FIELDS}}}},
        {"model": "qwen3.8-max", "enable_thinking": True, "reasoning_effort": "xhigh"},
        {"seed": 2**63 - 1, "top_k": 100, "temperature": 1.99, "top_p": 1.0, "presence_penalty": -2.0},
        {"thinking_budget": 262_144, "enable_thinking": True, "model": "qwen3.7-plus"},
    ],
)
def test_parameters_come_back_as_they_were_given(api, person, parameters):
    me = person()
    given = {"model": "qwen-plus", **parameters}
    made = create(api, me, parameters=given, messages=[{"role": "system", "content": "Answer as json."}])
    assert made.status == 200, made.json
    assert made.json["parameters"] == given
    assert api("presets.get", "GET", f"/presets/{made.json['id']}", user=me).json["parameters"] == given
    listed = api("presets.list", "GET", "/presets?limit=100", user=me).json
    assert [preset["parameters"] for preset in listed if preset["id"] == made.json["id"]] == [given]


@pytest.mark.parametrize(
    "parameters",
    [
        {"seed": 2**63},
        {"seed": True},
        {"seed": 1.5},
        {"top_k": "5"},
        {"enable_thinking": "off"},
        {"enable_search": 0},
        {"temperature": 2},
        {"temperature": True},
        {"search_options": {"search_strategy": "agent"}},
        {"search_options": {"forced_search": "yes"}},
        {"search_options": {"enable_source": False}},  # sources are always asked for
        {"reasoning_effort": "a lot"},
        {"response_format": {"type": "xml"}},
        {"response_format": {"type": "json_schema"}},
        {"response_format": {"type": "json_object", "json_schema": {"name": "a", "schema": {}}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"x": "half \ud800"}}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"x": "x" * 17_000}}}},
    ],
)
def test_parameters_of_another_kind_are_no_parameters(api, person, parameters):
    answer = create(api, person(), parameters={"model": "qwen-plus", **parameters})
    assert (answer.status, answer.json["code"]) == (422, "validation_error")


def test_a_preset_that_asks_for_json_cannot_lose_the_word(api, person):
    me = person()
    asks = [{"role": "system", "content": "Answer in JSON."}]
    made = create(api, me, parameters={"model": "qwen-plus", "response_format": {"type": "json_object"}}, messages=asks)
    for messages in ([], [{"role": "system", "content": "Answer."}]):
        answer = update(api, me, made.json["id"], messages=messages)
        assert (answer.status, answer.json["code"]) == (422, "json_not_mentioned")
    assert update(api, me, made.json["id"], messages=asks * 2).status == 200


def test_a_preset_on_a_retired_model_still_has_a_title_to_change(api, person, use_prices):
    me = person()
    made = create(api, me).json
    use_prices(prices.change_model("qwen-plus", retires_on="2026-01-01"))
    assert update(api, me, made["id"], title="Old").status == 200
    answer = update(api, me, made["id"], parameters={"model": "qwen-plus"})
    assert (answer.status, answer.json["code"]) == (422, "model_retired")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_no_number_is_refused(api, person, number):
    raw = f'{{"title": "T", "parameters": {{"model": "qwen-plus", "temperature": {number}}}}}'.encode()
    answer = api("presets.create", "POST", "/presets", raw=raw, user=person())
    assert (answer.status, answer.json["code"]) == (422, "validation_error")


@pytest.mark.parametrize(
    "body",
    [
        {"title": ""},
        {"title": "  "},
        {"title": "t" * 51},
        {"title": "two\nlines"},
        {"title": "half\ud800"},
        {"description": ""},
        {"description": "d" * 256},
        {"description": "null\x00byte"},
        {"visibility": "secret"},
        {"visibility": ["private"]},
        {"type": "title_generation"},
        {"parameters": []},
        {"parameters": "qwen-plus"},
        {"messages": {}},
        {"messages": ["text"]},
        {"messages": [{**SHOWN}] * 51},
        {"messages": [{**SHOWN, "role": "tool"}]},
        {"messages": [{**SHOWN, "content": ""}]},
        {"messages": [{**SHOWN, "content": "half\ud800"}]},
        {"messages": [{**SHOWN, "content": "null\x00byte"}]},
        {"messages": [{**SHOWN, "content": None}]},
        {"messages": [{**SHOWN, "visibility": "no"}]},
        {"messages": [{**SHOWN, "visibility": None}]},
        {"messages": [{**SHOWN, "type": "video"}]},
        {"messages": [{**SHOWN, "n": 1}]},
        {"messages": [{"content": "no role"}]},
        {"owner_id": "somebody"},
        {"like_count": 1000},
        {"version": 7},
    ],
    ids=lambda body: ascii(body)[:60],
)
def test_what_cannot_be_is_refused_and_changes_nothing(api, person, body):
    me = person()
    answer = create(api, me, **body)
    assert (answer.status, answer.json["code"]) == (422, "validation_error")
    assert me.user.preset_count == 0
    preset_id = create(api, me).json["id"]
    answer = update(api, me, preset_id, **body)
    assert (answer.status, answer.json["code"]) == (422, "validation_error")
    assert get(api, me, preset_id).json["version"] == 1


IMAGE = {"role": "user", "type": "image", "content": "https://example.com/a.png", "visibility": True}


def test_images_need_a_model_that_sees_them(api, person):
    me = person()
    blind, seeing = {"model": "qwen-plus"}, {"model": "qwen3.5-plus"}
    refused = create(api, me, messages=[IMAGE], parameters=blind)
    assert (refused.status, refused.json["code"]) == (422, "model_without_vision")
    with_image = create(api, me, messages=[IMAGE], parameters=seeing).json
    assert with_image["messages"] == [IMAGE]
    without = create(api, me, parameters=blind).json
    for preset, change in (
        (with_image, {"parameters": blind}),
        (without, {"messages": [IMAGE]}),
        (with_image, {"parameters": blind, "messages": [IMAGE]}),
    ):
        answer = update(api, me, preset["id"], **change)
        assert (answer.status, answer.json["code"]) == (422, "model_without_vision")
    assert update(api, me, without["id"], parameters=seeing, messages=[IMAGE]).status == 200
    assert update(api, me, with_image["id"], parameters=blind, messages=[]).status == 200


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"content": "http://example.com/a.png"}, "invalid_image_url"),
        ({"content": "file:///etc/hostname"}, "invalid_image_url"),
        ({"role": "system"}, "image_not_users"),
        ({"role": "assistant"}, "image_not_users"),
    ],
)
def test_an_image_is_the_users_and_has_a_public_address(api, person, change, code):
    answer = create(api, person(), messages=[{**IMAGE, **change}], parameters={"model": "qwen3.5-plus"})
    assert (answer.status, answer.json["code"]) == (422, code)


@pytest.mark.parametrize("character", ["a", "é", "字", "😀", '"', "\n"])
def test_messages_hold_a_hundred_kilobytes_of_any_text(api, person, character):
    me = person()
    size = len(character.encode())
    full = [{"role": "user", "content": character * (51200 // size)}] * 2
    made = create(api, me, messages=full)
    assert made.status == 200
    assert get(api, me, made.json["id"]).json["messages"] == made.json["messages"]
    assert update(api, me, made.json["id"], title="Again").status == 200
    spare = 102400 - 2 * (51200 // size) * size
    more = [*full, {"role": "user", "content": "b" * (spare + 1)}]
    answer = create(api, me, messages=more)
    assert (answer.status, answer.json["code"]) == (422, "validation_error")


def test_a_preset_stays_readable_when_the_rules_change(api, person):
    preset = shared_preset(person().id, visibility="unlisted")
    preset.parameters = {"model": "a-model-of-old", "temperature": 7}
    preset.messages = [{"role": "user", "type": "text", "content": "x\x00", "visibility": True}]
    preset.save()
    answer = get(api, person(), preset.id)
    assert answer.status == 200
    assert answer.json["parameters"] == {"model": "a-model-of-old", "temperature": 7}


def test_a_list_holds_ones_own_and_the_public_ones_without_messages(api, person, no_public_presets):
    me, other, admin = person(), person(), person(permission=2)
    mine = [create(api, me, visibility=v, messages=[HIDDEN, SHOWN]).json for v in ("private", "unlisted")]
    public = create(api, admin, visibility="public", messages=[HIDDEN, SHOWN]).json
    hidden = [create(api, other).json["id"], create(api, other, visibility="unlisted").json["id"]]
    listed = list_page(api, me).json
    expected = [{k: v for k, v in preset.items() if k != "messages"} for preset in (public, *reversed(mine))]
    assert listed == expected
    assert {preset["id"] for preset in list_page(api, person(permission=0)).json} == {public["id"]}
    for_admin = {preset["id"] for preset in list_page(api, admin).json}
    assert for_admin == {public["id"], mine[1]["id"], hidden[1]}


def test_a_preset_that_is_both_ones_own_and_public_is_listed_once(api, person, no_public_presets):
    admin = person(permission=2)
    made = [create(api, admin, visibility=v).json["id"] for v in ("public", "private", "public", "unlisted")]
    assert [preset["id"] for preset in list_page(api, admin).json] == made[::-1]


@pytest.mark.parametrize("order_by", ["create_time", "update_time", "title"])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_put_together_are_the_whole_list_in_order(api, person, no_public_presets, order_by, order):
    admin, other = person(permission=2), person()
    moments = [clock.timestamp(clock.now() + n // 3) for n in range(9)]
    expected = set()
    for n, moment in enumerate(moments):
        title = f"T{n % 4}"  # several have one title, and several one time
        expected.add(shared_preset(admin.id, title, "private", moment).id)
        expected.add(shared_preset(admin.id, title, "public", moment).id)
        expected.add(shared_preset(other.id, title, "public", moment).id)
        expected.add(shared_preset(other.id, title, "unlisted", moment, update_time=moments[-n]).id)
        shared_preset(other.id, title, "private", moment)
    for limit in (1, 2, 7, 100):
        found = list_all(api, admin, limit, f"&order_by={order_by}&order={order}")
        ids = [preset["id"] for preset in found]
        assert len(ids) == len(set(ids))
        assert set(ids) == expected
        values = [preset[order_by] for preset in found]
        assert values == sorted(values, reverse=order == "desc")
    skipped = list_page(api, admin, f"?order_by={order_by}&order={order}&limit=5&offset=17").json
    assert [preset["id"] for preset in skipped] == ids[17:22]


def test_titles_of_any_script_can_be_paged(api, person, no_public_presets):
    admin, other = person(permission=2), person()
    for owner, visibility in ((admin, "private"), (other, "public"), (other, "unlisted")):
        for _ in range(3):
            shared_preset(owner.id, "😀" * 50, visibility)
    assert len(list_all(api, admin, 4, "&order_by=title")) == 9


def test_a_deletion_between_two_pages_loses_nothing_else(api, person, no_public_presets):
    me, other = person(), person()
    heads = [shared_preset(other.id, "Same title") for _ in range(6)]
    page = list_page(api, me, "?order_by=title&limit=3")
    shown = [preset["id"] for preset in page.json]
    next(head for head in heads if head.id == shown[-1]).delete()
    cursor = page.headers["x-next-cursor"]
    rest = [preset["id"] for preset in list_page(api, me, f"?order_by=title&limit=10&cursor={cursor}").json]
    assert sorted(shown + rest) == sorted(head.id for head in heads)


def test_the_order_and_the_limit_have_defaults(api, person, no_public_presets):
    me = person()
    made = [create(api, me).json["id"] for _ in range(12)]
    assert [preset["id"] for preset in list_page(api, me).json] == made[:1:-1]


@pytest.mark.parametrize(
    "query",
    ["order_by=like_count", "order=up", "limit=0", "limit=101", "offset=1001", "cursor=", "cursor=x", "cursor=bnVsbA"],
)
def test_a_page_that_cannot_be_is_refused(api, person, query):
    assert list_page(api, person(), f"?{query}").status == 422


def test_a_cursor_is_good_for_its_own_list_only(api, person):
    from aideer.web import pagination

    me = person()
    name = "presets by title desc"
    good = ["", "", "T", "id", "", ""]
    assert list_page(api, me, f"?order_by=title&cursor={pagination.encode(name, good)}").status == 200
    assert list_page(api, me, f"?order_by=title&order=asc&cursor={pagination.encode(name, good)}").status == 422
    assert list_page(api, me, f"?cursor={pagination.encode(name, good)}").status == 422
    for wrong in (["", "", "T", "", "", ""], ["", "", "", "id", "", ""], ["", "", "T" * 1100, "id", "", ""], good[:4]):
        assert list_page(api, me, f"?order_by=title&cursor={pagination.encode(name, wrong)}").status == 422


def test_a_pages_cost_does_not_grow_with_the_public_presets(api, person, counted, no_public_presets):
    me, other = person(), person()
    table = settings.PRESETS_TABLE

    def cost() -> list[str]:
        counted.clear()
        assert len(list_page(api, me, "?limit=5").json) == 5
        return list(counted)

    for _ in range(10):
        shared_preset(other.id)
    few = cost()
    assert few == [f"GetItem {settings.USERS_TABLE}", f"Query {table}", f"Query {table}"]
    for _ in range(100):
        shared_preset(other.id)
    assert cost() == few


def test_what_presets_cost(api, person, counted):
    me = person()
    user, preset = f"GetItem {settings.USERS_TABLE}", f"GetItem {settings.PRESETS_TABLE}"
    preset_id = create(api, me).json["id"]
    for call, calls in (
        (lambda: create(api, me), [user, "TransactWriteItems"]),
        (lambda: get(api, me, preset_id), [user, preset]),
        (lambda: update(api, me, preset_id, title="T"), [user, preset, "TransactWriteItems"]),
        (lambda: delete(api, me, preset_id), [user, preset, "TransactWriteItems"]),
    ):
        counted.clear()
        assert call().status == 200
        assert Counter(counted) == Counter(calls)


def test_no_message_is_logged(api, person, capsys):
    me = person()
    secret = f"secret {uuid4().hex}"
    preset_id = create(api, me, messages=[{**HIDDEN, "content": secret}]).json["id"]
    update(api, me, preset_id, messages=[{**HIDDEN, "content": secret, "wrong": 1}])
    assert secret not in json.dumps("".join(capsys.readouterr()))


BAD_DAYS = {
    "conflict": lambda: faults.refused("TransactWriteItems", faults.CONFLICT, times=3),
    "throttled": lambda: faults.refused("TransactWriteItems", faults.THROTTLED),
    "internal error": lambda: faults.refused("TransactWriteItems", faults.INTERNAL, status=500),
    "lost answer": lambda: faults.answer_lost("TransactWriteItems"),
}


@pytest.mark.parametrize("fault", BAD_DAYS.values(), ids=BAD_DAYS)
def test_on_a_bad_day_too_everything_happens_once(api, person, fault):
    me = person()
    with fault():
        made = create(api, me)
    assert made.status == 200
    assert me.user.preset_count == 1
    preset_id = made.json["id"]
    with fault():
        assert update(api, me, preset_id, title="Another").json["version"] == 2
    assert [version.version for version in Preset.query(preset_id)] == [0, 1, 2]
    with fault():
        assert delete(api, me, preset_id).status == 200
    assert me.user.preset_count == 0


def test_where_dynamodb_never_answers_it_is_said_to_be_busy(api, person, monkeypatch):
    monkeypatch.setattr(transactions, "PATIENCE_SECONDS", 0.1)
    me = person()
    with faults.refused("TransactWriteItems", faults.THROTTLED, times=1000):
        answer = create(api, me)
    assert (answer.status, answer.json["code"]) == (503, "busy")
    assert me.user.preset_count == 0
