"""README.zh-CN.md says what README.md says: a change of one without the other is found, as far as structure shows it."""

import re
from collections import Counter
from collections.abc import Callable

import pytest

from local.stack.template import ROOT

ENGLISH, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))


def headings(text: str) -> list[int]:
    """The levels of the headings, in order."""
    return [len(marks) for marks in re.findall(r"^(#+) \S", without_blocks(text), re.MULTILINE)]


def blocks(text: str) -> list[str]:
    """What is to be pasted."""
    return re.findall(r"^```.*?^```$", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[str]:
    """What is shown in indented lines, without comments."""
    return [line.partition("  # ")[0].rstrip() for line in re.findall(r"^    \S.*$", text, re.MULTILINE)]


def tables(text: str) -> list[str]:
    """The rows' first cells and what else of them is code."""
    rows = re.findall(r"^\| [`\[].*\|$", text, re.MULTILINE)
    return [" ".join([row.split("|")[1].strip(), *re.findall(r"`[^`]+`", row)]) for row in rows]


def links(text: str) -> Counter[str]:
    """What is linked to, each other aside."""
    return Counter(link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("README"))


def code(text: str) -> set[str]:
    """Names, commands and values in the prose. How often each is said is a matter of language."""
    return set(re.findall(r"`([^`\n]+)`", without_blocks(text)))


def without_blocks(text: str) -> str:
    """The prose."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def order(text: str) -> list[str]:
    """The headings, tables and commands, in order. The prose between them may have any number of paragraphs."""
    kinds = {"#": "heading", "|": "table", " ": "commands", "```": "block"}
    parts = re.split(r"\n{2,}", text)
    return [kind for part in parts for mark, kind in kinds.items() if part.startswith(mark)]


@pytest.mark.parametrize(
    "aspect", [headings, blocks, commands, tables, links, code], ids=lambda aspect: aspect.__name__
)
def test_both_have_the_same(aspect: Callable[[str], object]) -> None:
    assert aspect(CHINESE) == aspect(ENGLISH)


def test_both_are_told_in_the_same_order() -> None:
    assert order(CHINESE) == order(ENGLISH)


def test_one_leads_to_the_other() -> None:
    assert "[中文](README.zh-CN.md)" in ENGLISH
    assert "[English](README.md)" in CHINESE


def test_it_is_chinese() -> None:
    for heading in re.findall(r"^##+ (.*)$", without_blocks(CHINESE), re.MULTILINE):
        assert re.search(r"[\u4e00-\u9fff]", heading), heading
