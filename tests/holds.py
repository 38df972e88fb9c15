"""How much more a hold is than what the answer costs, for kinds of prompts: writes the table of docs/performance.md.

    python -m tests.holds

Tokens are counted by the vocabulary that the dashscope package carries. The answer is always of the same length, and no
credits are short. Nothing is sent anywhere.
"""

import os
import random
import sys
from collections.abc import Callable

from local.release.build import NUMBERS, write
from local.stack.template import ROOT, Template

sys.path.insert(0, str(ROOT / "functions"))
os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
for _name in Template().document["Globals"]["Function"]["Environment"]["Variables"]:
    os.environ.setdefault(_name, NUMBERS.get(_name, ""))

from aideer.billing import pricing  # noqa: E402
from aideer.billing.estimates import estimate  # noqa: E402
from aideer.core.usage import Usage  # noqa: E402
from aideer.prompts import input_tokens, tokenizer  # noqa: E402
from aideer.prompts.prompts import Prompt  # noqa: E402

TITLE = "## Holds"
MODEL, ANSWER, MAX_TOKENS = "qwen-plus", 350, 2048
_SENTENCE = "Deer shed their antlers every winter, and grow a new and often larger pair before the autumn comes. "
_CHINESE = "鹿每年冬天都会脱落鹿角，到了秋天之前又会长出一对新的、往往更大的角。"
_CODE = (
    "def ceiling(amount: int, per: int) -> int:\n    # What is left over counts.\n    return -(-amount // per)\n\n\n"
)
_JSON = (
    '{"id": 1842, "name": "Fallow deer", "weight_kg": 61.5, "antlers": true, "seen": ["2026-11-02", "2026-11-19"]},\n'
)
_JAPANESE = "鹿は毎年冬に角を落とし、秋が来る前に新しい、たいていはより大きな角を生やします。"
_TIBETAN = "ཤ་བས་དགུན་ཁ་རེ་རེར་རྭ་ཅོ་འདོར་གྱི་ཡོད། "
_EMOJI = "🦌🌲👩‍🚀✨🏳️‍🌈❤️"


def _user(*texts: str) -> Prompt:
    return Prompt([{"role": "user", "content": text} for text in texts], asks=True)


def _chat(text: str, messages: int) -> Prompt:
    roles = ["user", "assistant"] * messages
    system = {"role": "system", "content": "You are a friendly deer."}
    said = [{"role": role, "content": text} for role in roles[: messages - 1]]
    return Prompt([system, *said, {"role": "user", "content": text}], asks=True)


def _repeated(text: str, size: int) -> str:
    return text * (size // len(text.encode()) + 1)


def _digits(size: int) -> str:
    chosen = random.Random(9)
    return "".join(chosen.choice("0123456789") for _ in range(size))


def _base64(size: int) -> str:
    chosen = random.Random(9)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return "".join(chosen.choice(alphabet) for _ in range(size))


KINDS: dict[str, Callable[[], Prompt]] = {
    "a first question": lambda: _user("Why do deer shed their antlers every winter?"),
    "a chat of 20 messages of 1 KB": lambda: _chat(_repeated(_SENTENCE, 1000), 20),
    "a chat of 20 messages of 1 KB, Chinese": lambda: _chat(_repeated(_CHINESE, 1000), 20),
    "a document of 160 KB": lambda: _user(_repeated(_SENTENCE, 160_000), "Sum it up."),
    "a document of 394 KB": lambda: _user(_repeated(_SENTENCE, 394_000), "Sum it up."),
    "source text of 60 KB": lambda: _user(_repeated(_CODE, 60_000)),
    "JSON of 300 KB": lambda: _user(_repeated(_JSON, 300_000)),
    "Japanese, 200 KB": lambda: _user(_repeated(_JAPANESE, 200_000)),
    "Tibetan, 60 KB": lambda: _user(_repeated(_TIBETAN, 60_000)),
    "emoji, 20 KB": lambda: _user(_repeated(_EMOJI, 20_000)),
    "digits, 100 KB": lambda: _user(_digits(100_000)),
    "base64, 200 KB": lambda: _user(_base64(200_000)),
}


def row(name: str, prompt: Prompt) -> str:
    """One kind's line of the table. The last hold is the one that a task gets."""
    tariff = pricing.get_tariff(MODEL)
    assert tariff
    frozen = pricing.freeze(tariff, None)
    parameters = {"max_tokens": MAX_TOKENS}
    size = sum(len(text.encode()) for text in prompt.contents)
    real = input_tokens.count(frozen, prompt, parameters).input_tokens
    cost = pricing.compute_cost(frozen, Usage(real, ANSWER))
    before = pricing.compute_worst_cost(
        frozen, sum(len(text.encode()) + 16 for text in prompt.contents), MAX_TOKENS, thinking=False
    )
    by_bytes = input_tokens.compute_bound(tariff, prompt, parameters)
    counted = by_bytes > tariff["tiers"][0]["up_to"]
    most = min(by_bytes, input_tokens.count_bound(tariff, prompt, parameters)) if counted else by_bytes
    hold = estimate(tariff, parameters, most, 10**9).hold
    assert hold >= cost
    return (
        f"| {name} | {size:,} | {real:,} | {cost:,} | {before:,} ({before / cost:.1f}) | {hold:,} ({hold / cost:.1f}) "
        f"| {'tokens' if counted else 'bytes'} |"
    )


SECTION = """{title}

    python -m tests.holds     # makes this section again

How much more a hold is than what the answer costs, on {model}, with an answer of {answer} tokens of at most {most}: a hold sets
aside the longest answer. Credits, and in brackets the hold as a multiple of the cost. A prompt is priced by its bytes, unless they
put it into a dearer tier or would refuse it: then its tokens are counted.

| prompt | bytes | tokens | cost | release 0.1.0 | hold | by |
| --- | ---: | ---: | ---: | ---: | ---: | --- |
{rows}
"""


def main() -> int:
    """Count, and write the table."""
    tokenizer.count([""])
    rows = "\n".join(row(name, make()) for name, make in KINDS.items())
    write(SECTION.format(title=TITLE, model=MODEL, answer=ANSWER, most=f"{MAX_TOKENS:,}", rows=rows), TITLE)
    print(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
