"""Names that are one, look like one, or may not be; and passwords that are set."""

import importlib
import unicodedata
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from aideer.core.errors import Unprocessable
from aideer.data.models import Identity, User
from aideer.schemas.strings import Username
from aideer.security import password_hashing, rate_limits, usernames
from aideer.security.limits import Limit
from tests.support import Context, recorded_calls

USERNAME = TypeAdapter(Username)


def fresh() -> str:
    """A part of a name that nobody has, of letters that have no look-alike among ASCII's."""
    return uuid4().hex.translate(str.maketrans("0123456789", "ghkpqrtvwy"))[:16]


def sign_up(api, username, password="secret-123", **body):
    return api("users.create", "POST", "/users", json={"username": username, "password": password, **body})


def sign_in(api, username, password):
    form = {"grant_type": "password", "username": username, "password": password}
    return api("session.create", "POST", "/session/oauth2/token", form=form)


def rename(api, user, username):
    return api("users.update", "PUT", f"/users/{user.id}", json={"username": username}, user=user)


LOOKALIKES = [
    ("paypal{}", "раураl{}"),  # Cyrillic
    ("paypal{}", "paypaI{}"),
    ("paypal{}", "paypa1{}"),
    ("bob{}", "b0b{}"),
    ("modern{}", "modem{}"),
    ("alpha{}", "αlpha{}"),
    ("two words{}", "two  words{}"),
    ("two words{}", "two\u3000words{}"),
    ("wide{}", "ｗｉｄｅ{}"),
    ("scope{}", "ѕсоре{}"),
    ("工作{}", "⼯作{}"),
    ("I1l{}", "lIl{}"),
]


@pytest.mark.parametrize(("first", "second"), [*LOOKALIKES, *(pair[::-1] for pair in LOOKALIKES)])
def test_a_name_that_looks_like_another_is_taken(api, person, first, second):
    unique = fresh()
    statuses = [sign_up(api, name.format(unique)).status for name in (first, second)]
    assert statuses in ([200, 400], [422, 200], [200, 422])
    if statuses == [200, 400]:
        answer = rename(api, person(), second.format(unique))
        assert (answer.status, answer.json["code"]) == (400, "username_taken")


@pytest.mark.parametrize(
    "name",
    [
        "snow☃man",
        "👩‍💻 deer",
        "soft\u00adhyphen",
        "half\u1160filler",
        "un\u0378assigned",
        "new\U0001e6ffletter",
        "\U000e0061tags",
        "a\u034fb",
        "two\tparts",
        "ﬁne ligature",
        "rtl\u05d0mixed",
        "no\u00a0\u200bspace",
    ],
    ids=ascii,
)
def test_a_name_of_other_characters_is_refused(api, name):
    answer = sign_up(api, name)
    assert (answer.status, answer.json["code"]) == (422, "validation_error")


@given(st.text(min_size=2, max_size=20))
def test_what_is_taken_for_a_name_is_stable_visible_and_assigned(text):
    try:
        name = USERNAME.validate_python(text)
    except ValidationError:
        return
    assert USERNAME.validate_python(name) == name == unicodedata.normalize("NFC", name)
    assert "  " not in name
    assert all(c == " " or unicodedata.category(c)[0] not in "CZ" for c in name)
    assert usernames.compute_skeletons(name) == usernames.compute_skeletons(usernames.enforce(name))


HIDDEN_MARKS = [
    "x{}i\u0307",  # drawn as an i
    "x{}j\u0307",
    "x{}і\u0307",  # Cyrillic
    "x{}ι\u0307",  # Greek: a dotted iota looks like an i
    "x{}ı\u0307",  # Turkish: a dotless i that gets its dot
    "x{}l\u0307",
    "x{}i\u0323\u0307",
    "x{}i\u0301\u0307",
    "x{}į\u0307",
    "x{}é\u0301",
    "x{}e\u0301\u0301",
    "x{}a\u0301\u0323\u0341",  # twice an acute, in canonical order
    "x{}a\u0301\u0300\u0302\u0303\u0304",
    "x{}a\u0338",
    "x{}o\u0334",
    "x{}1\u20d2",
    "x{}a\u20ea",
    "\u0301x{}",
    "x{} \u0301y",
]


@pytest.mark.parametrize("name", HIDDEN_MARKS, ids=ascii)
def test_a_mark_that_does_not_show_is_in_no_name(api, person, name):
    unique = fresh()
    assert sign_up(api, f"x{unique}i").status == 200
    for answer in (sign_up(api, name.format(unique)), rename(api, person(), name.format(unique))):
        assert (answer.status, answer.json["code"]) == (422, "validation_error")
        assert answer.json["detail"][0]["type"] == "name_characters"


MARKED_NAMES = {
    "Vietnamese": ["Nguyễn Thị Hiển", "Đặng Quốc Ấn", "Trịnh Vĩnh Ỷ"],
    "Thai": ["กิ่งแก้ว", "ชื่อเสียง", "น้ำฝน", "กำพล"],
    "Lao": ["ຄຳແພງ"],
    "Hindi": ["हिन्दी", "कर्त्री", "राज़िया", "श्रीमती"],
    "Arabic": ["مُحَمَّد", "فَاطِمَة", "عَبْدُ ٱللَّٰه"],
    "Hebrew": ["שָׁלוֹם", "יִשְׂרָאֵל", "בְּרֵאשִׁ֖ית"],
    "Korean": ["김철수"],
    "Turkish": ["İstanbul", "Iğdır", "ışık"],
    "Lithuanian": ["Ėjė Jūratė Įdomi"],
    "Tamil": ["தமிழ்ச்செல்வி"],
    "Khmer": ["ស្ត្រី"],
    "Tibetan": ["བསྒྲུབས"],
    "Yoruba": ["Ọ̀ṣun Adébáyọ̀"],
}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("name", [name for language in MARKED_NAMES.values() for name in language], ids=ascii)
def test_the_marks_of_languages_are_in_names(name, form):
    taken = USERNAME.validate_python(unicodedata.normalize(form, name))
    assert unicodedata.normalize("NFKC", taken) == unicodedata.normalize("NFKC", name)


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("\u0958" * 25, "\u0915\u093c" * 25),
        ("\u1100\u1175\u11b7" * 50, "김" * 50),
        ("a" + " " * 60 + "b" * 48, "a " + "b" * 48),
    ],
    ids=ascii,
)
def test_the_length_of_a_name_is_that_of_the_name_as_it_is_stored(typed, shown):
    assert USERNAME.validate_python(typed) == shown
    assert len(shown) == 50
    for longer in (typed + "c", f"c{typed}"):
        with pytest.raises(ValidationError, match="at most 50 characters"):
            USERNAME.validate_python(longer)


def test_a_name_of_one_character_is_too_short_however_it_is_typed(api):
    for short in ("e\u0323", "\u1112\u1161\u11ab", " a  "):
        answer = sign_up(api, short)
        assert (answer.status, answer.json["detail"][0]["type"]) == (422, "string_too_short")


def test_a_name_of_any_length_signs_in_as_it_is_shown(api):
    unique = fresh()[:4]
    for typed in ("\u0958" * 23 + unique, "\u1100\u1175\u11b7" * 46 + unique):
        name = sign_up(api, typed).json["username"]
        assert len(name) == 50
        for spelled in (name, typed, unicodedata.normalize("NFD", name)):
            assert sign_in(api, spelled, "secret-123").status == 200


def test_a_name_with_letters_of_any_language_is_a_name(api):
    for name in ("Ada Lovelace", "小鹿", "Ünïcödé", "ひらがな", "한국어", "Ольга", "ada_99.x-y"):
        assert sign_up(api, f"{name}{fresh()}").status == 200, name


def test_a_name_is_free_with_its_looks_when_its_user_takes_another_or_goes(api, person):
    me, unique = person(), fresh()
    for name in (f"bob{unique}", f"tim{unique}"):
        assert rename(api, me, name).status == 200
    assert sign_up(api, f"b0b{unique}").status == 200
    assert api("users.delete", "DELETE", f"/users/{me.id}", user=me).status == 200
    assert sign_up(api, f"tim{unique}").status == 200


def test_another_spelling_of_ones_own_name_is_ones_own(api, person):
    me, unique = person(), fresh()
    for name in (f"ian{unique}", f"Ian{unique}", f"IAN{unique}", f"ian{unique}"):
        assert rename(api, me, name).status == 200
        assert sign_in(api, name, me.password).status == 200
    assert len(User.get(me.id).name_keys) in (1, 2)
    assert {Identity.get(key).user_id for key in User.get(me.id).name_keys} == {me.id}


def test_who_tries_names_that_are_taken_is_stopped(api, person, monkeypatch):
    monkeypatch.setitem(rate_limits.LIMITS, "name", Limit(2, 900))
    me, other = person(), person()
    assert [rename(api, me, other.username).status for _ in range(3)] == [400, 400, 429]
    assert rename(api, me, f"free{fresh()}").status == 429
    assert [rename(api, other, f"free{fresh()}").status for _ in range(4)] == [200] * 4, "what is free does not count"
    assert api("users.update", "PUT", f"/users/{me.id}", json={"nickname": "Me"}, user=me).status == 200


def test_others_are_not_shown_the_name_that_one_signs_in_with(api, person):
    me, other, admin = person(), person(), person(permission=2)
    api("users.update", "PUT", f"/users/{me.id}", json={"nickname": "Somebody"}, user=me)
    shown = api("users.get", "GET", f"/users/{me.id}", user=other)
    assert shown.json == {"id": me.id, "nickname": "Somebody", "avatar": None, "avatar_url": None}
    assert me.username not in shown.body
    for viewer in (me, admin):
        assert api("users.get", "GET", f"/users/{me.id}", user=viewer).json["username"] == me.username


# Names of the previous release


@pytest.mark.parametrize(
    "name",
    [
        "two  spaces {}",
        "snow☃man {}",
        "İstanbul {}",
        "ﬁne {}",
        "xi\u0307 {}",
        "é\u0301 {}",
        "a\u0338 {}",
        "\u0915\u093c" * 33 + " {}",  # NFC of 33 characters that were typed
        "\u0308\u0301" * 33 + " {}",
    ],
)
def test_who_has_a_name_and_a_hash_of_the_previous_release_signs_in(api, person, name):
    me, name, password = person(), name.format(fresh()), "man\u0303ana-123"
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).strip()
    raw_hash = password_hashing._hasher().hash(password)
    Identity(f"password#{folded}", user_id=me.id, password_hash=raw_hash).save()
    User(me.id).update([User.username.set(name)])
    assert sign_in(api, name, password).status == 200
    now = Identity.get(f"password#{folded}", consistent_read=True).password_hash
    assert now != raw_hash
    assert sign_in(api, name, unicodedata.normalize("NFC", password)).status == 200
    assert sign_in(api, name, password).status == 200
    assert Identity.get(f"password#{folded}", consistent_read=True).password_hash == now


def test_what_old_names_look_like_is_reserved_by_the_operator(api, person):
    unique = fresh()
    me, twin = person(), person()
    for user, name in ((me, f"bob{unique}"), (twin, f"b0b{unique}")):
        User(user.id).update([User.username.set(name)])
    handler = importlib.import_module("operations.reserve_names").handler
    found = handler({}, Context(seconds=120))
    assert found["done"]
    assert found["reserved"] >= 1
    assert found["lookalikes"] >= 1
    assert sum(bool(User.get(user.id, consistent_read=True).name_keys) for user in (me, twin)) == 1
    assert sign_up(api, f"bоb{unique}").json["code"] == "username_taken"  # a Cyrillic o
    assert handler({}, Context(seconds=120))["reserved"] == 0, "it does nothing twice"
    assert handler({}, Context(seconds=1)) == {"reserved": 0, "lookalikes": 0, "done": False}


# Passwords


def test_no_common_password_is_set(api, person):
    me, admin, linked = person(), person(permission=2), person()
    for common in (
        "123456",
        "password",
        "PASSWORD1",
        "qwerty",
        "iloveyou",
        "admin123",
        "１２３４５６"[:0] or "letmein",
    ):
        new = {"new_password": common}
        answers = [
            sign_up(api, f"n{fresh()}", common),
            api(
                "users.change_password", "PUT", "/users/me/password", json={**new, "old_password": me.password}, user=me
            ),
            api("users.set_password", "PUT", f"/users/{me.id}/password", json=new, user=admin),
            api(
                "users.link_password",
                "POST",
                "/users/me/identities/password",
                json={"username": f"n{fresh()}", "password": common},
                user=linked,
            ),
        ]
        assert [(answer.status, answer.json["code"]) for answer in answers] == [(422, "common_password")] * 4
    assert sign_in(api, me.username, me.password).status == 200


def test_the_operators_own_administrator_may_have_any_password(api):
    handler = importlib.import_module("operations.make_admin").handler
    name = f"boss{fresh()}"
    handler({"username": name, "password": "admin123"}, None)
    assert sign_in(api, name, "admin123").status == 200


@pytest.mark.parametrize("password", ["null\x00byte", "line\nbreak", "un\u0378assigned"], ids=ascii)
def test_a_password_that_cannot_be_typed_again_is_not_set(password):
    with pytest.raises(Unprocessable) as refusal:
        password_hashing.require_good(password)
    assert refusal.value.code == "password_characters"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("ma\u00f1ana-123", "man\u0303ana-123"),
        ("with a space", "with\u00a0a\u3000space"),
        ("\u1e9b\u0323 long enough", "\u1e9b\u0323 long enough"),
    ],
    ids=ascii,
)
def test_a_password_is_one_in_all_its_encodings(api, first, second):
    for one, other in ((first, second), (second, first)):
        name = f"n{fresh()}"
        assert sign_up(api, name, one).status == 200
        assert sign_in(api, name, other).status == 200
        assert sign_in(api, name, other.upper()).status == 400


def test_the_length_of_a_password_is_that_of_its_nfc(api):
    for short in ("e\u0323" * 5, "\u1100\u1175\u11b7" * 5):
        answer = sign_up(api, f"n{fresh()}", short)
        assert (answer.status, answer.json["detail"][0]["type"]) == (422, "string_too_short")
    for longest in ("\u1100\u1175\u11b7" * 255, "e\u0323" * 255):
        name, shown = f"n{fresh()}", unicodedata.normalize("NFC", longest)
        assert sign_up(api, name, f"{longest}!").json["detail"][0]["type"] == "string_too_long"
        assert sign_up(api, name, longest).status == 200
        for spelled in (longest, shown):
            assert sign_in(api, name, spelled).status == 200
        assert sign_in(api, name, f"{longest}!").status == 400


def test_a_password_that_was_bounded_as_it_is_typed_signs_in(api, person):
    me, password = person(), "\u0958" * 255
    Identity(f"password#{me.username}").update([Identity.password_hash.set(password_hashing.hash_password(password))])
    assert sign_in(api, me.username, password).status == 200
    change = {"old_password": password, "new_password": "brand-new-1"}
    assert api("users.change_password", "PUT", "/users/me/password", json=change, user=me).status == 200


def test_how_often_is_hashed_tells_nothing_of_who_is_there(api, person, monkeypatch):
    me = person()
    counts = []
    real = password_hashing._verifies
    monkeypatch.setattr(password_hashing, "_verifies", lambda *args: counts.append(1) or real(*args))
    for wrong in ("wrong-ascii", "wrong-man\u0303ana"):
        seen = []
        for name in (me.username, f"nobody{fresh()}"):
            counts.clear()
            with recorded_calls() as calls:
                assert sign_in(api, name, wrong).status == 400
            seen.append((len(counts), [call.split()[0] for call in calls]))
        assert seen[0] == seen[1]
