"""How many tokens a text is: never more than its bound, by the real vocabulary and as Qwen itself counts."""

import unicodedata

import pytest
from dashscope.tokenizers import qwen_tokenizer
from dashscope.tokenizers.tokenizer import get_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from aideer.billing import pricing
from aideer.core.usage import Usage
from aideer.prompts import input_tokens, prompts, tokenizer
from aideer.prompts.prompts import Prompt

QWEN = get_tokenizer("qwen-plus")
PLUS = pricing.get_tariff("qwen-plus")
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|extra_0|>", "<think>", "</think>"]
HOSTILE = [
    "\u0fb9",  # one character, and six bytes in NFC: two tokens a byte of its own
    "\U0001d1c0",  # four bytes, and twelve in NFC
    "\u0f43\u0f4d",
    "བོད་ཡིག",
    "👩‍🚀",
    "🏳️‍🌈",
    "7",
    "１",
    "é",
    "e\u0301",
    "a\u0316\u0301\u0323",
    "각",
    "\u1100\u1161\u11a8",
    "\u0958",  # excluded from composition
    "\u2126",
    "\ufb1d",
    "龘",
    "𠮷",
    "\x00",
    "\u200d",
    "\r\n",
    " ",
    "\t",
    "-----",
    "AbC",
    *SPECIAL,
]
TEXTS = st.one_of(
    st.text(max_size=300),
    st.lists(st.sampled_from(HOSTILE), max_size=60).map("".join),
    st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=20)), max_size=30).map("".join),
    st.builds(lambda piece, times: piece * times, st.sampled_from(HOSTILE), st.integers(1, 400)),
)


def real(text):
    """The most that the provider can make of a text: typed special tokens as plain text."""
    return len(QWEN._tokenizer.encode_ordinary(unicodedata.normalize("NFC", text)))


@given(TEXTS)
def test_a_text_is_never_more_tokens_than_its_bound(text):
    assert real(text) <= tokenizer.compute_bound(text)
    assert len(QWEN.encode(text)) <= tokenizer.compute_bound(text)


@given(TEXTS)
def test_a_bound_is_at_least_the_bytes_of_nfc(text):
    assert tokenizer.compute_bound(text) >= len(unicodedata.normalize("NFC", text).encode())


@pytest.mark.parametrize(
    ("text", "bound"),
    [("", 0), ("abc", 3), ("é", 2), ("你好", 6), ("<|im_start|>", 12)],
)
def test_the_bound_of_what_is_normal_already_is_its_bytes(text, bound):
    assert tokenizer.compute_bound(text) == bound


def test_bytes_of_the_text_itself_would_be_no_bound():
    assert real("\U0001d1c0") > len("\U0001d1c0".encode())
    assert real("\u0fb9") > len("\u0fb9".encode())


@given(TEXTS.filter(lambda text: unicodedata.is_normalized("NFC", text)))
def test_a_count_is_what_the_vocabulary_says(text):
    assert tokenizer.count([text]) == real(text)


@given(st.lists(TEXTS, max_size=4))
def test_a_count_with_its_spare_is_a_bound_too(texts):
    prompt = Prompt([{"role": "user", "content": text} for text in texts], asks=True)
    wrapped = sum(map(real, texts)) + 5 * len(texts) + 33
    assert wrapped <= input_tokens.count_bound(PLUS, prompt, {})
    assert wrapped <= input_tokens.compute_bound(PLUS, prompt, {})


@settings(max_examples=10, deadline=None)
@given(TEXTS.filter(bool), st.integers(90_000, 320_000))
def test_long_texts_are_counted_in_pieces(text, size):
    text = (text * (size // len(text) + 1))[:size]
    exact = sum(real(text[n : n + 50_000]) for n in range(0, len(text), 50_000))
    counted = -(-tokenizer.count([text], seconds=60) * 21 // 20) + 33
    assert exact - 16 <= counted  # cut elsewhere, a word or two is counted in halves
    assert counted <= tokenizer.compute_bound(text) * 21 // 20 + 34


def test_a_special_token_that_a_user_types_is_counted_as_text():
    assert tokenizer.count(["<|im_start|>"]) == real("<|im_start|>") > 1


def test_how_a_text_is_split_is_what_the_package_says():
    assert tokenizer._SPLIT == qwen_tokenizer.PAT_STR


def test_what_time_does_not_suffice_for_counts_as_its_bytes(monkeypatch):
    clock = iter([0.0, 0.0, 9.0, 9.0])
    monkeypatch.setattr(tokenizer.time, "thread_time", lambda: next(clock))
    assert tokenizer.count(["word " * 10, "word " * 10, "你" * 10], seconds=1) == real("word " * 10) + 50 + 30


def test_a_panic_of_the_tokenizer_counts_as_bytes_and_nothing_else_does():
    class PanicException(BaseException):  # as PyO3 names it: no Exception
        pass

    class Broken:
        def __init__(self, error):
            self.error = error

        def encode_ordinary(self, _):
            raise self.error

    assert tokenizer._count(Broken(PanicException()), "你好") == 6
    for error in (KeyboardInterrupt(), SystemExit(), ValueError()):
        with pytest.raises(type(error)):
            tokenizer._count(Broken(error), "你好")


def test_the_real_panic_has_that_name():
    with pytest.raises(BaseException) as panic:  # noqa: PT011 - its class cannot be imported
        tokenizer._encoding().encode_ordinary(" " * 1_000_000)
    assert type(panic.value).__name__ == "PanicException"
    assert not isinstance(panic.value, Exception)
    assert 0 < tokenizer.count([" " * 1_000_000], seconds=60) < 20_000


@pytest.mark.parametrize("text", ["a" * 4_000_000, "\u0316\u0301" * 1_000_000, "\u0fb9" * 1_000_000, "7" * 4_000_000])
def test_the_largest_prompts_are_bounded_work(text, monkeypatch):
    """Counted by what is given to the slow parts, and not by a clock: pieces have a length, and normalising them too."""
    sizes, normalize = [], unicodedata.normalize
    monkeypatch.setattr(
        tokenizer.unicodedata, "normalize", lambda form, piece: sizes.append(len(piece)) or normalize(form, piece)
    )
    given_to_tiktoken = []
    monkeypatch.setattr(tokenizer, "_count", lambda _, piece: given_to_tiktoken.append(len(piece)) or 0)
    assert tokenizer.count([text], seconds=600) == 0
    assert max(given_to_tiktoken) <= 100_000
    assert max(sizes, default=0) <= 128
    tokenizer.compute_bound(text)
    assert max(sizes, default=0) <= 128


# Prompts


def prompt(*messages):
    return Prompt([{"role": role, "content": content} for role, content in messages], asks=True)


def test_a_prompt_without_a_system_message_has_the_providers_own():
    with_system = prompt(("system", ""), ("user", "hi"))
    without = prompt(("user", ""), ("user", "hi"))
    assert input_tokens.compute_bound(PLUS, without, {}) == input_tokens.compute_bound(PLUS, with_system, {}) + 30


def test_a_count_for_a_bill_is_the_input_the_images_and_the_search():
    tariff = pricing.freeze(pricing.get_tariff("qwen3.7-plus"), "max")
    seeing = Prompt([{"role": "user", "content": [{"text": "hi"}, {"image": "https://a.b/c"}]}], asks=True)
    plain = input_tokens.count(tariff, seeing, {})
    assert plain == Usage(plain.input_tokens)
    assert plain.input_tokens >= tariff["image_tokens"] + 2
    searching = input_tokens.count(tariff, seeing, {"enable_search": True})
    assert searching == Usage(plain.input_tokens + tariff["search_tokens"], searches=1)
    assert pricing.compute_cost(tariff, searching) >= 40


@given(st.lists(TEXTS, min_size=1, max_size=4))
@pytest.mark.parametrize("model", ["qwen-plus", "qwen3.8-max"])
def test_a_count_for_a_bill_is_never_above_the_bound_of_the_hold(model, texts):
    tariff = pricing.get_tariff(model)
    asked = prompt(*(("user", text) for text in texts))
    counted = input_tokens.count(tariff, asked, {})
    assert counted.input_tokens <= input_tokens.compute_bound(tariff, asked, {})
    assert counted.searches == counted.cached_tokens == counted.output_tokens == 0


def test_a_model_without_a_known_vocabulary_is_counted_by_bytes():
    tariff = pricing.get_tariff("qwen3.8-max")
    assert not input_tokens.is_countable(tariff)
    assert input_tokens.count(tariff, prompt(("system", "word " * 100)), {}).input_tokens == 500 + 5 + 3


def test_a_prompt_of_the_first_release_is_read_as_far_as_it_was_priced():
    assert prompts.compute_reach({"context": 1000}) == (1000, 16)
    assert prompts.compute_reach({"context": 1000, "max_input": 900, "tokenizer": "qwen"}) == (7200, 40)
    assert prompts.compute_reach({"context": 1000, "max_input": 900, "tokenizer": "unverified"}) == (2700, 15)
