"""Texts in the language of the reader."""

import json
import sys
from collections.abc import Iterator

import pytest

from aideer import core
from aideer.core import texts
from aideer.core.errors import Conflict, Detail


@pytest.fixture(autouse=True)
def _reader() -> Iterator[None]:
    before = texts.accept_language.set(None)
    yield
    texts.accept_language.reset(before)


def test_a_text_with_values_is_the_english_sentence() -> None:
    text = Detail("At most {most} of {names}.", most=3, names=["a", "b"])
    assert text == "At most 3 of a, b."
    assert json.dumps(text) == '"At most 3 of a, b."'


def test_an_error_is_english_unless_the_reader_prefers_chinese() -> None:
    error = Conflict("too_many_likes", Detail("A user can have at most {most} likes.", most=1000), limit=1000)
    english = {"detail": "A user can have at most 1000 likes.", "code": "too_many_likes", "limit": 1000}
    for header in (None, "", "en", "de", "zh_CN"):
        texts.accept_language.set(header)
        assert error.body() == english
        assert error.answer_headers() == {"Content-Language": "en", "Vary": "Accept-Language"}
    texts.accept_language.set("zh-CN")
    assert error.body() == {**english, "detail": "每位用户最多可以点 1000 个赞。"}
    assert error.answer_headers() == {"Content-Language": "zh", "Vary": "Accept-Language"}
    assert str(error) == english["detail"], "what a log could say"


def test_lists_and_texts_within_a_text_are_chinese_too() -> None:
    texts.accept_language.set("zh")
    formats = Detail("An image must be one of {formats}.", formats=("JPEG", "PNG"))
    assert texts.translate(formats) == "不支持这种图片格式，请使用以下格式之一：JPEG、PNG。"
    each = Detail("in {seconds} seconds", seconds=45)
    assert texts.translate(Detail("You may stop {times} answers {each}.", times=3, each=each)) == (
        "您每 45 秒最多可以停止 3 个回答。"
    )


def test_a_text_that_the_catalogue_lacks_stays_english() -> None:
    texts.accept_language.set("zh")
    assert texts.translate("No such text.") == "No such text."
    assert texts.translate(Detail("No such {what}.", what="text")) == "No such text."
    assert texts.translate(Detail.of_kind("no_such_kind", "No such text.", {})) == "No such text."


def test_a_text_without_a_value_of_its_translation_stays_english() -> None:
    texts.accept_language.set("zh")
    assert texts.translate(Detail.of_kind("string_too_long", "Too long.", {})) == "Too long."


def test_a_stored_text_is_told_in_the_language_of_each_reader() -> None:
    for text in (Detail("An image must be one of {formats}.", formats=("A", "B")), "Sign in first."):
        stored = json.loads(json.dumps(texts.to_stored(text)))
        texts.accept_language.set("en")
        assert texts.translate(Detail.restore(stored)) == text
        chinese = texts.accept_language.set("zh")
        assert texts.translate(Detail.restore(stored)) == texts.translate(text) != text
        texts.accept_language.reset(chinese)


def test_braces_in_a_value_are_no_places() -> None:
    texts.accept_language.set("zh")
    text = Detail("The model {model} does not think.", model="{0} {model}")
    assert texts.translate(text) == "模型 {0} {model} 不支持思考。"


def test_an_english_reader_needs_no_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("chinese", "languages"):
        monkeypatch.delitem(sys.modules, f"aideer.core.{module}", raising=False)
        monkeypatch.delattr(core, module, raising=False)
    assert texts.translate("Sign in first.") == "Sign in first."
    assert not {"aideer.core.chinese", "aideer.core.languages"} & sys.modules.keys()
    texts.accept_language.set("en")
    assert texts.translate("Sign in first.") == "Sign in first."
    assert "aideer.core.chinese" not in sys.modules
