"""The simulated model's text: prose in the question's language, the same for the same question, with any number of tokens.

A token is one streamed piece of text. An answer has exactly the requested number of tokens and ends with a sentence. It consists
of whole sentences, with some tokens cut or joined until the number is right.
"""

import itertools
import random
import re
import struct
import zlib
from collections.abc import Iterator

_TOKEN = re.compile(r"[A-Za-z0-9'’-]+[,.!?;:]? ?|[\u3040-\u30ff\u4e00-\u9fff]{1,2}|[\uac00-\ud7a3]+ ?|\S ?|\s")
_HALF = re.compile("[\ud800-\udfff]")
_TRIES = 12
"""The number of sentences tried until one fits."""
_QUOTED = 60
"""The number of characters of a question that an answer repeats."""

# For each language: openings of answers to a greeting and to a question, further sentences, and reasoning.
_GREETING = re.compile(r"\b(hi|hello|hey|who are you)\b|你好|您好|你是谁|こんにちは|안녕", re.IGNORECASE)
_GREETINGS = {
    "zh": "你好！我是运行在这台电脑上的模拟模型。收到你的消息：{quoted}。",
    "ja": "こんにちは！私はこのパソコンで動く模擬モデルです。{quoted}を受け取りました。",
    "ko": "안녕하세요! 저는 이 컴퓨터에서 실행되는 모의 모델입니다. {quoted} 메시지를 받았습니다. ",
    "en": "Hello! I am a simulated model that runs on this computer. You wrote {quoted}. ",
}
_OPENINGS = {
    "zh": (
        "关于{quoted}，我的回答如下。",
        "你问的是{quoted}，下面是我的看法。",
        "谢谢提问：{quoted}。我们一步一步来看。",
    ),
    "ja": ("{quoted}についてお答えします。", "ご質問は{quoted}ですね。順番に見ていきましょう。"),
    "ko": ("{quoted}에 대해 답해 드리겠습니다. ", "질문은 {quoted}이군요. 차례대로 살펴보겠습니다. "),
    "en": (
        "Here is an answer to {quoted}. ",
        "You asked {quoted}. Let us go through it step by step. ",
        "Thank you for your question, {quoted}. There are a few things to consider. ",
    ),
}
_SENTENCES = {
    "zh": (
        "可以把问题拆成几个小问题。",
        "每个小问题都可以单独检查，这样更容易发现错误。",
        "如果时间不多，先做最重要的那一步。",
        "有不清楚的地方，可以继续问我。",
        "一个简单的例子往往比长篇解释更有用 🙂。",
        "把结果写下来，方便以后比较。",
        "别忘了检查边界情况，比如空输入。",
        "引用数字时，最好注明单位和来源。",
        "需要的话，我也可以把它整理成一个列表。",
        "请结合自己的实际情况判断这些建议是否适用 🌿。",
        "café、naïve、日本語、한국어 这样的文字也能完整显示。",
        "以上内容由模拟模型生成，不收取任何费用。",
    ),
    "ja": (
        "まず、問題を小さな部分に分けると分かりやすくなります。",
        "それぞれの部分は別々に確認できます。",
        "時間がないときは、一番大切なことから始めてください 🙂。",
        "簡単な例を一つ作ってみるのもよい方法です。",
        "分からない点があれば、もう一度聞いてください。",
        "最後に、結果をご自身の状況で確かめてください 🌿。",
    ),
    "ko": (
        "먼저 문제를 작은 부분으로 나누는 것이 좋습니다. ",
        "각 부분은 따로 확인할 수 있습니다. ",
        "시간이 없으면 가장 중요한 것부터 시작하세요 🙂. ",
        "간단한 예를 하나 만들어 보는 것도 도움이 됩니다. ",
        "마지막으로 결과를 직접 확인해 보세요 🌿. ",
    ),
    "en": (
        "First, it helps to split the question into smaller parts. ",
        "Each part can be checked on its own, so mistakes are easy to find. ",
        "If time is short, begin with the step that matters most. ",
        "A small example often explains more than a long text 🙂. ",
        "Write the result down, so that you can compare it later. ",
        "Remember the edge cases, such as an empty input. ",
        "Numbers should come with their unit and their source. ",
        "If you like, I can turn this into a list. ",
        "Words such as café and naïve, 日本語 and 한국어 arrive unbroken. ",
        "Please check this advice against your own situation 🌿. ",
        "A simulated model wrote this, and it costs nothing. ",
    ),
}
_SHORT = {"zh": "好的。", "ja": "はい。", "ko": "네. ", "en": "Yes, of course. "}
_SEEN = {
    "zh": "我看到了 {n} 张图片。",
    "ja": "画像が {n} 枚あります。",
    "ko": "이미지가 {n} 개 보입니다. ",
    "en": "I can see {n} image{s}. ",
}
_THOUGHTS = {
    "zh": (
        "先想一想 🤔，用户的消息是{quoted}。",
        ("先弄清楚用户真正想知道什么。", "答案应该简短，而且有依据。", "再检查一遍，确认没有遗漏。"),
    ),
    "ja": ("少し考えます 🤔。{quoted}とのことです。", ("何を知りたいのかを確かめます。", "答えは短くします。")),
    "ko": (
        "잠시 생각해 보겠습니다 🤔. {quoted}라고 합니다. ",
        ("무엇을 알고 싶은지 확인합니다. ", "답은 짧게 합니다. "),
    ),
    "en": (
        "Let me think 🤔. The user wrote {quoted}. ",
        (
            "What do they want to know? ",
            "The answer should be short and well founded. ",
            "One more look: nothing is missing. ",
        ),
    ),
}
_QUOTES = {"zh": "「{}」", "ja": "「{}」", "ko": "“{}”", "en": "“{}”"}


def language_of(text: str) -> str:
    """Return "ja" for kana, "ko" for Hangul, "zh" for Han characters, and "en" for all other texts."""
    if re.search("[\u3040-\u30ff]", text):
        return "ja"
    if re.search("[\uac00-\ud7a3]", text):
        return "ko"
    return "zh" if re.search("[\u3400-\u9fff\U00020000-\U0003ffff]", text) else "en"


def answer(question: str, tokens: int, *, images: int = 0, cut_emoji: bool = False) -> list[str]:
    """Return an answer of that many tokens. It ends with a sentence."""
    language = language_of(question)
    openings = [_SEEN[language].format(n=images, s="" if images == 1 else "s")] if images else []
    chosen = random.Random(zlib.crc32(question.encode("utf-8", "replace")))  # noqa: S311 - the same for the same question
    if question:
        ways = (_GREETINGS[language],) if _GREETING.search(question) else _OPENINGS[language]
        openings.append(chosen.choice(ways).format(quoted=_quote(question, language)))
    return _fit(tokens, _flow(openings, _SENTENCES[language], chosen), _SHORT[language], cut_emoji=cut_emoji)


def thoughts(question: str, tokens: int, *, cut_emoji: bool = False) -> list[str]:
    """Return that many tokens of reasoning before an answer."""
    language = language_of(question)
    opening, sentences = _THOUGHTS[language]
    chosen = random.Random(zlib.crc32(question.encode("utf-8", "replace")))  # noqa: S311
    flow = _flow([opening.format(quoted=_quote(question, language))], sentences, chosen)
    return _fit(tokens, flow, _SHORT[language], cut_emoji=cut_emoji)


def pieces(text: str) -> list[str]:
    """Cut a text into tokens."""
    return _TOKEN.findall(text)


def _quote(question: str, language: str) -> str:
    line = " ".join(question.split())
    return _QUOTES[language].format(line if len(line) <= _QUOTED else f"{line[:_QUOTED]}…")


def _flow(openings: list[str], sentences: tuple[str, ...], chosen: random.Random) -> Iterator[str]:
    """Yield sentences without end: first the openings, then all others again and again, each time in a new order."""
    yield from openings
    while True:
        yield from chosen.sample(sentences, len(sentences))


def _fit(count: int, sentences: Iterator[str], short: str, *, cut_emoji: bool) -> list[str]:
    """Take the sentences that fit. Then cut or join tokens at the end until their number is exact."""
    said: list[str] = []
    left_out: list[list[str]] = []
    while len(said) < count and len(left_out) < _TRIES:
        tokens = pieces(next(sentences))
        if cut_emoji:
            tokens = list(itertools.chain.from_iterable(map(_halves, tokens)))
        if len(said) + len(tokens) <= count:
            said += tokens
            left_out = []
        else:
            left_out.append(tokens)
    if count and not said and count <= len(short.rstrip()):
        said = pieces(short)
    _cut(said, count)
    if len(said) < count:
        said += min((len(tokens), tokens) for tokens in left_out)[1]
    while len(said) > count > 0:
        said[-2:] = ["".join(said[-2:])]
    if said:
        said[-1] = said[-1].rstrip(" ") or said[-1]
    return said


def _cut(tokens: list[str], count: int) -> None:
    """Cut words in two, from the end, until there are enough tokens or no more words to cut."""
    at = len(tokens) - 1
    while len(tokens) < count and at >= 0:
        word = tokens[at]
        if len(word.rstrip()) > 1 and not _HALF.search(word):
            tokens[at : at + 1] = [word[:1], word[1:]]
            at += 2  # the rest of the word may be cut again
        at -= 1


def _halves(token: str) -> Iterator[str]:
    """Cut a token inside each of its surrogate pairs."""
    piece = ""
    for (unit,) in struct.iter_unpack("<H", token.encode("utf-16-le", "surrogatepass")):
        piece += chr(unit)
        if 0xD800 <= unit < 0xDC00:
            yield piece
            piece = ""
    if piece:
        yield piece
