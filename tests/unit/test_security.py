"""docs/security.md names tests, and all of them are there."""

import ast
import re

import pytest

from local.stack.template import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(test_\w+\.py)::(test_\w+)`", PAGE)))


@pytest.mark.parametrize(("file", "name"), NAMED, ids=lambda part: part)
def test_a_test_that_is_named_is_there(file: str, name: str) -> None:
    names = {
        node.name
        for path in (ROOT / "tests").glob(f"**/{file}")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    assert name in names


def test_whatever_is_defended_names_its_test() -> None:
    rows = re.findall(r"^\| (?!what|---)(.*) \|$", PAGE, re.MULTILINE)
    assert len(rows) > 30
    assert [row for row in rows if "::test_" not in row.rpartition("|")[2]] == []
    assert all((ROOT / "tests").glob(f"**/{file}") for file in re.findall(r"`(test_\w+\.py)`", PAGE))
