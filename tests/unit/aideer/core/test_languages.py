"""Which language a request prefers (RFC 9110, section 12.5.4)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aideer.core import languages


@pytest.mark.parametrize(
    "header",
    [
        "zh",
        "zh-CN",
        "zh-TW",
        "zh-Hans",
        "zh-Hant-HK",
        "ZH-cn",
        "zh-CN,zh;q=0.9,en;q=0.8",  # Chrome in Chinese
        "zh-CN,zh;q=0.8,zh-TW;q=0.7,zh-HK;q=0.5,en-US;q=0.3,en;q=0.2",  # Firefox in Chinese
        "zh-CN, en-US;q=0.9",
        "en;q=0.5, zh;q=0.8",
        "zh;q=0.001",
        "fr-CH, fr;q=0.9, zh;q=0.2",  # English is not asked for at all
        "en;q=0, *",  # everything but English
        "zh, en",
        "zh, *",
        "*, zh",
        "*;q=0.1, zh",
        "zh ; q=1.000 , en ; q=0.999",
        "\tzh\t;\tQ=0.5",
        ",, zh ,",
        "zh-TW;q=0, zh-CN",
    ],
)
def test_chinese_is_preferred(header: str) -> None:
    assert languages.choose(header) == "zh"


@pytest.mark.parametrize(
    "header",
    [
        "en",
        "en-US,en;q=0.9",
        "en-US,en;q=0.9,zh-CN;q=0.8",
        "en, zh",
        "de",
        "*",
        "*;q=0.5",
        "zh;q=0",
        "zh;q=0.000, *",
        "zh;q=0, en;q=0",
        "zh;q=0.5, *;q=0.9",
        "zh;q=0.3, en-GB;q=0.4",
        "",
        " , ",
        "zho",  # another subtag
        "zhx-CN",
        "de-zh",
    ],
)
def test_english_is_preferred_or_the_default(header: str) -> None:
    assert languages.choose(header) == "en"


@pytest.mark.parametrize(
    "header",
    [
        "zh_CN",
        "zh-",
        "-zh",
        "zh--CN",
        "zh;q=1.1",
        "zh;q=0.1234",
        "zh;q=.5",
        "zh;q=-1",
        "zh;q=",
        "zh;q",
        "zh;",
        "zh; q = 1",
        "zh;level=1",
        "zh;q=1;q=1",
        "zh q=1",
        "zh; q=0,5",
        "中文",
        "zh\n",
        "zh-CN,en\x00",
        "zh-abcdefghi",
        "zh-\u212a\u212a",  # the Kelvin sign is no letter of a tag
        '"zh"',
        "zh, " + "zh-CN, " * 1000,
    ],
)
def test_a_malformed_header_means_english(header: str) -> None:
    assert languages.choose(header) == "en"


@given(st.text(max_size=60) | st.text("zhen-*;q=01.,_ \t", max_size=40))
def test_every_header_has_a_language(header: str) -> None:
    assert languages.choose(header) in ("en", "zh")


@given(st.lists(st.sampled_from(["en-US", "zh-CN", "fr", "*"]), max_size=4), st.data())
def test_a_language_that_is_named_with_more_weight_wins(others: list[str], data: st.DataObject) -> None:
    weights = [data.draw(st.integers(0, 899)) for _ in others]
    lesser = [f"{name};q={weight / 1000:.3f}" for name, weight in zip(others, weights, strict=True)]
    for tag, language in (("zh-TW", "zh"), ("en-GB", "en")):
        place = data.draw(st.integers(0, len(lesser)))
        header = ", ".join([*lesser[:place], f"{tag};q=0.9", *lesser[place:]])
        assert languages.choose(header) == language
