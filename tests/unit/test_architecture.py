"""docs/architecture.md names every module, and every path, function and table that it names exists."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pynamodb.models import Model

from aideer.data.base import Table
from local.stack.template import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
BLOCKS = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
PROSE = BLOCKS.sub("", PAGE)
CODE = sorted(set(re.findall(r"`([^`\n]+)`", PROSE)))
BASES = [ROOT, ROOT / "functions", ROOT / "functions" / "aideer", ROOT / "docs"]
"""Each path on the page begins in one of these folders."""
MODULES = [
    path for folder in ("functions/aideer", "local") for path in (ROOT / folder).glob("*/*.py") if path.stem[0] != "_"
]
TABLES = Table.__subclasses__()


def listed() -> Iterator[Path]:
    """The files in the tree of functions/aideer and in the tables whose rows begin with a folder."""
    tree = re.search(r"^```\n(functions/aideer)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert tree
    folder = ""
    for line in tree[2].splitlines():
        name = line.split()[0]
        if name.endswith("/"):
            folder = name
        else:
            yield ROOT / tree[1] / folder / name
    for row in re.findall(r"^\| `(local/\w+)`(.*)$", PAGE, re.MULTILINE):
        for name in re.findall(r"`(\w+\.\w+)`", row[1]):
            if name != "template.yaml":
                yield ROOT / row[0] / name


def paths() -> Iterator[str]:
    """What looks like a path, in code and in links."""
    yield from (
        name
        for name in CODE
        if re.fullmatch(r"[\w.-]+/[\w./-]*|Makefile|(template|pyproject|\.env)\.(yaml|toml|example)", name)
    )
    yield from re.findall(r"\]\((?!https?:|#)([^)#]+)", PROSE)


def defined_in(path: Path) -> set[str]:
    """The names at the top of a module: functions, classes and constants."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def test_every_module_is_on_the_page_once() -> None:
    assert sorted(file for file in listed() if file.suffix == ".py") == sorted(MODULES)


def test_every_path_on_the_page_exists() -> None:
    assert [str(file) for file in listed() if not file.is_file()] == []
    assert [name for name in paths() if not any((base / name).exists() for base in BASES)] == []


def test_every_function_on_the_page_exists() -> None:
    by_name: dict[str, set[str]] = {}
    for path in (ROOT / "functions" / "aideer").glob("*/*.py"):
        by_name.setdefault(path.stem, set()).update(defined_in(path))
    named = [match.groups() for name in CODE if (match := re.fullmatch(r"([a-z_]+)\.(\w+)", name))]
    found = [(module, name) for module, name in named if module in by_name and name != "py"]
    assert len(found) > 40
    assert [pair for pair in found if pair[1] not in by_name[pair[0]]] == []


def test_the_layers_are_those_of_the_linter() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    [layers] = [each["layers"] for each in contracts if each.get("containers") == ["aideer"]]
    assert re.findall(r"^  (\w+)/ ", PAGE, re.MULTILINE) == [name for layer in layers for name in layer.split(" : ")]


@pytest.mark.parametrize("model", TABLES, ids=lambda model: model.__name__)
def test_a_table_has_its_keys_and_its_indexes(model: type[Model]) -> None:
    row = re.search(rf"^\| {model.__name__} \(.*$", PAGE, re.MULTILINE)
    assert row
    schema = model._get_schema()
    keys = schema["key_schema"] + [key for index in schema["global_secondary_indexes"] for key in index["key_schema"]]
    names = {key["AttributeName"] for key in keys} | {i["index_name"] for i in schema["global_secondary_indexes"]}
    assert names <= set(re.findall(r"`(\w+)`", row[0]))
