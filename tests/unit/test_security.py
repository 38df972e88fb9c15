"""docs/security.md names tests, and all of them are there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from local.stack.template import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(test_\w+\.py)::(test_\w+)`", PAGE)))


@cache
def defined_in(path: Path) -> set[str]:
    """The names of the functions that a file defines."""
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


@pytest.mark.parametrize(("file", "name"), NAMED, ids=lambda part: part)
def test_a_test_that_is_named_is_there(file: str, name: str) -> None:
    paths = (ROOT / "tests").glob(f"**/{file}")
    assert any(name in defined_in(path) for path in paths)


def test_whatever_is_defended_names_its_test() -> None:
    rows = re.findall(r"^\| (?!what|---)(.*) \|$", PAGE, re.MULTILINE)
    assert len(rows) > 30
    assert [row for row in rows if "::test_" not in row.rpartition("|")[2]] == []
    assert all((ROOT / "tests").glob(f"**/{file}") for file in re.findall(r"`(test_\w+\.py)`", PAGE))
