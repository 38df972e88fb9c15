"""What request bodies take and refuse, for any input."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from aideer.accounts import users
from aideer.billing import redeem_codes
from aideer.schemas.credits import CodeText, Moment
from aideer.schemas.presets import Description, NewPreset, Parameters, Prompt, Title
from aideer.schemas.strings import Nickname, Password, PasswordToSet, Username

ANY_TEXT = st.text(st.characters(codec=None), max_size=60)
TEXTS = {"Username": Username, "Nickname": Nickname, "Title": Title, "Description": Description, "Prompt": Prompt}


def accepted(kind, value):
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return None


@pytest.mark.parametrize(
    "kind", [*TEXTS.values(), PasswordToSet, CodeText, Moment], ids=[*TEXTS, "Password", "Code", "Moment"]
)
@given(text=ANY_TEXT)
def test_what_is_taken_can_be_encoded_and_says_something(kind, text):
    taken = accepted(kind, text)
    if taken is not None:
        assert taken.encode("utf-8")


@pytest.mark.parametrize("kind", TEXTS.values(), ids=TEXTS)
@given(text=ANY_TEXT)
def test_what_is_taken_is_taken_again_unchanged(kind, text):
    taken = accepted(kind, text)
    if taken is not None:
        assert accepted(kind, taken) == taken


INVISIBLE = [
    *"\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180e\u180f\u2800\u3164\ufe00\ufe0f\uffa0\U000e0100\U000e01ef",
    *"\u00ad\u061c\u200b\u200d\u2060\u2065\ufeff\ufff0\U0001d173\U000e0001\U000e0041",
]


@pytest.mark.parametrize("character", INVISIBLE, ids=ascii)
def test_a_name_has_nothing_that_cannot_be_seen(character):
    for name in (f"ad{character}a", f"{character}ada", f"ada{character}"):
        assert accepted(Username, name) is None


@pytest.mark.parametrize("emoji", ["\u2764\ufe0f", "\U0001f469\u200d\U0001f4bb", "1\ufe0f\u20e3"], ids=ascii)
def test_a_nickname_and_a_title_have_any_emoji(emoji):
    for kind in (Nickname, Title):
        assert accepted(kind, f"ada {emoji}") == f"ada {emoji}"


@given(ANY_TEXT)
def test_one_line_is_one_line(text):
    for kind in (Username, Nickname, Title):
        taken = accepted(kind, text)
        if taken is not None:
            assert len(taken.splitlines()) == 1
            assert taken == taken.strip()


@given(ANY_TEXT)
def test_the_key_of_a_name_fits_and_folding_it_again_changes_nothing(text):
    name = accepted(Username, text)
    if name is not None:
        key = users.password_key(name)
        assert key.startswith("password#")
        assert len(key.encode()) <= 2048
        assert users.password_key(key.removeprefix("password#")) == key
        assert users.password_key(f" {name}\n") == key


@given(st.text("ABCxyz019-", min_size=1, max_size=64))
def test_a_code_is_kept_in_capitals(text):
    assert accepted(CodeText, f" {text}\n") == text.upper()


@pytest.mark.parametrize("kind", [Password, PasswordToSet], ids=["compared", "set"])
def test_half_a_character_is_in_no_password(kind):
    assert accepted(kind, "\ud800secret") is None


@given(st.datetimes(timezones=st.sampled_from([None]) | st.timezones()))
def test_moments_in_order_are_texts_in_order(moment):
    text = accepted(Moment, moment.isoformat())
    if text is not None:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text)
        assert accepted(Moment, text) == text


def test_invented_codes_are_of_the_kind_that_is_taken_and_never_the_same():
    invented = [redeem_codes.generate() for _ in range(1000)]
    assert len(set(invented)) == 1000
    assert all(accepted(CodeText, code) == code for code in invented)
    alphabet = set("".join(invented)) - {"-"}
    assert not alphabet & set("01OIL")
    assert 20 * math.log2(len(alphabet)) >= 80


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*NewPreset.model_fields, "other"]), JSON))
def test_no_json_breaks_a_body(body):
    with pytest.raises(ValidationError):  # at random it is never a whole preset
        NewPreset.model_validate(body)


@given(st.dictionaries(st.sampled_from(list(Parameters.model_fields)), JSON))
def test_parameters_that_are_taken_come_back_as_they_were(given_parameters):
    try:
        taken = Parameters.model_validate({"model": "qwen-plus", **given_parameters})
    except ValidationError:
        return
    expected = {k: v for k, v in {"model": "qwen-plus", **given_parameters}.items() if v is not None}
    assert taken.model_dump() == expected
    assert Parameters.model_validate(taken.model_dump()) == taken
