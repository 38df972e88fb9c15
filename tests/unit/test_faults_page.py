"""docs/faults.md: every fault has a rule, and a test that states it and exists."""

import ast
import re
from functools import cache

from local.stack.template import ROOT

PAGE = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
ENTRIES = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))


@cache
def defined_in(path: str) -> set[str]:
    """The names of the functions that a file defines."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_no_fault_of_a_section_is_left_out() -> None:
    counts = {"M": 11, "P": 8, "H": 10, "O": 8, "L": 10}
    expected = {f"{section}{n}" for section, count in counts.items() for n in range(1, count + 1)}
    assert expected | {f"S{n}" for n in range(4, 16)} <= ENTRIES.keys()


def test_each_has_a_rule_and_tests_that_exist() -> None:
    for name, text in ENTRIES.items():
        assert "\nRule: " in text, name
        cited = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
        assert cited, name
        for path, test in cited:
            assert test in defined_in(path), f"{name}: {path}::{test}"
