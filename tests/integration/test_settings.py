"""GET and PUT /users/me/settings: a JSON object that comes back as it was sent, and that two devices do not overwrite."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aideer.accounts import settings as stored
from aideer.core.errors import PreconditionFailed
from aideer.data.models import Record, User
from aideer.schemas.oneself import SETTINGS_BYTES, encode_settings
from tests import faults
from tests.support import Answer, Api, Person, make_person, recorded_calls


def get(api: Api, person: Person, **headers: str) -> Answer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return api("users.settings", "GET", "/users/me/settings", user=person, headers=sent)


def put(api: Api, person: Person, json: Any = None, raw: str | None = None, **headers: str) -> Answer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if raw is not None:
        sent["content-type"] = "application/json"
        event = {"raw": raw.encode()}
        return api("users.set_settings", "PUT", "/users/me/settings", user=person, headers=sent, **event)
    return api("users.set_settings", "PUT", "/users/me/settings", user=person, json=json, headers=sent)


def test_settings_come_back_as_they_were_sent(api: Api) -> None:
    me = make_person()
    first = get(api, me)
    assert (first.json, first.headers["etag"]) == ({}, '"0"')
    wanted = {"主题": "深色", "size": 1.5, "open": True, "none": None, "list": [1, [2, {"a": -0.5}]], "": ""}
    answer = put(api, me, wanted)
    assert (answer.status, answer.json, answer.headers["etag"]) == (200, wanted, '"1"')
    seen = get(api, me)
    assert (seen.json, seen.headers["etag"]) == (wanted, '"1"')
    assert list(seen.json) == list(wanted)
    assert put(api, me, {}).headers["etag"] == '"2"'
    assert get(api, me).json == {}


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), values, max_size=6))
def test_every_object_in_bounds_always_comes_back_exactly(api: Api, wanted: dict[str, Any]) -> None:
    me = make_person()
    answer = put(api, me, wanted)
    if answer.status == 200:
        assert encode_settings(get(api, me).json) == encode_settings(wanted)
    else:
        assert (answer.status, answer.json["code"]) == (422, "validation_error"), "too deep"


def test_a_device_does_not_overwrite_what_another_has_stored(api: Api) -> None:
    me = make_person()
    assert put(api, me, {"by": "phone"}, if_match='"0"').status == 200
    answer = put(api, me, {"by": "laptop"}, if_match='"0"')
    assert (answer.status, answer.json["code"]) == (412, "precondition_failed")
    assert get(api, me).json == {"by": "phone"}
    assert put(api, me, {"by": "laptop"}, if_match='"1"').headers["etag"] == '"2"'
    assert put(api, me, {"by": "anybody"}, if_match="*").status == 200


def test_of_devices_that_change_one_version_at_once_one_wins() -> None:
    me = make_person()

    def change(n: int) -> bool:
        try:
            stored.replace(me.user, {"by": n}, '"0"')
        except PreconditionFailed:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(change, range(4)))
    assert won.count(True) == 1
    assert stored.read(me.user, None) == ({"by": won.index(True)}, 1)


def test_changes_without_a_condition_at_once_are_all_counted() -> None:
    me = make_person()
    with ThreadPoolExecutor(4) as pool:
        versions = list(pool.map(lambda n: stored.replace(me.user, {"by": n}, None), range(4)))
    assert sorted(versions) == [1, 2, 3, 4]
    assert stored.read(me.user, None) == ({"by": versions.index(4)}, 4)


def test_a_lost_answer_refuses_nobody(api: Api) -> None:
    me = make_person()
    with faults.answer_lost("TransactWriteItems", times=2):
        answer = put(api, me, {"theme": "dark"}, if_match='"0"')
    assert (answer.status, answer.headers["etag"]) == (200, '"1"')


def test_the_version_that_one_has_is_not_sent_again(api: Api) -> None:
    me = make_person()
    put(api, me, {"theme": "dark"})
    assert get(api, me, if_none_match='"1"').status == 304
    assert get(api, me, if_none_match='"0"').status == 200


def test_settings_are_limited_by_their_bytes(api: Api) -> None:
    me = make_person()
    wanted = {"text": "鹿" * ((SETTINGS_BYTES - len('{"text":""}')) // 3)}
    assert put(api, me, wanted).status == 200
    wanted["text"] += "鹿"
    answer = put(api, me, wanted)
    assert (answer.status, answer.json["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ('{"a":' + "[" * 16 + "]" * 16 + "}", "too_deep"),
        ('{"a":1e999}', "number_range"),
        ('{"a":9007199254740993}', "number_range"),
        ('{"a":-9007199254740993}', "number_range"),
        (r'{"a":"\ud800"}', "string_unicode"),
        (r'{"\ud800":1}', "string_unicode"),
        ('{"a":NaN}', "body_unreadable"),
        ('{"a":' + "9" * 400 + "}", "number_range"),
        ('{"a":' + "9" * 5000 + "}", "body_unreadable"),
        ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "body_unreadable"),
        ("[]", "body_unreadable"),
        ('"text"', "dict_type"),
        ("1", "dict_type"),
        ("null", "missing"),
        ("{", "json_invalid"),
        ("{" + ",".join(f'"k{n}":1' for n in range(201)) + "}", "body_unreadable"),
    ],
)
def test_what_could_break_a_reader_is_refused(api: Api, body: str, kind: str) -> None:
    me = make_person()
    answer = put(api, me, raw=body)
    assert answer.status == 422
    assert [error["type"] for error in answer.json["detail"]] == [kind]
    assert get(api, me).json == {}


def test_the_deepest_settings_and_the_largest_numbers_are_kept(api: Api) -> None:
    me = make_person()
    body = '{"a":' + "[" * 15 + "]" * 15 + ',"n":9007199254740992,"x":1e308}'
    assert put(api, me, raw=body).status == 200
    assert get(api, me).json["n"] == 2**53


def test_each_call_reads_the_user_and_the_settings_once(api: Api) -> None:
    me = make_person()
    reads = [f"GetItem {table.Meta.table_name}" for table in (User, Record)]
    with recorded_calls() as calls:
        put(api, me, {"theme": "dark"})
    assert calls == [*reads, "TransactWriteItems"]
    with recorded_calls() as calls:
        get(api, me)
    assert calls == reads


def test_nobody_else_sees_them_and_the_user_is_not_changed(api: Api) -> None:
    me, other = make_person(), make_person(2)
    before = me.user.serialize()
    put(api, me, {"theme": "dark"})
    assert get(api, other).json == {}
    assert me.user.serialize() == before
