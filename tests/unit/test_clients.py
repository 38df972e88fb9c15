"""docs/clients.md shows what `make clients` has found, and the clients are pinned."""

import json
import re

import pytest

from local.stack.template import ROOT
from tests.clients.cases import ANSWERS, CASES, CHAT_ANSWERS, CHAT_CASES

PAGE = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
NODE = ROOT / "tests" / "clients" / "node"


@pytest.mark.parametrize(
    ("begin", "cases", "answers", "clients"),
    [("make clients", CASES, ANSWERS, 6), ("make clients, useChat", CHAT_CASES, CHAT_ANSWERS, 2)],
)
def test_the_page_has_every_case_of_every_client_and_none_fails(
    begin: str, cases: dict[str, str], answers: dict[str, int | None], clients: int
) -> None:
    table = PAGE.partition(f"<!-- table: {begin} -->\n")[2].partition("<!-- end of the table -->")[0]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert [row[0] for row in rows] == list(cases.values())
    assert cases.keys() == answers.keys()
    assert len(head) == 1 + clients
    for row in rows:
        assert len(row) == len(head)
        assert set(row[1:]) <= {"works", "–", "not run"}


def test_the_chat_of_the_ai_sdk_does_every_case() -> None:
    program = (NODE / "usechat.mjs").read_text(encoding="utf-8").partition("  run({\n")[2]
    assert re.findall(r"^    async (\w+)\(door\)", program, re.MULTILINE) == list(CHAT_CASES)


def test_every_program_does_the_same_cases() -> None:
    names = {
        path.name: set(
            re.findall(r'^        "(\w+)": ', path.read_text(encoding="utf-8").rpartition("run(\n")[2], re.MULTILINE)
        )
        for path in (ROOT / "tests" / "clients").glob("with_*.py")
    }
    assert len(names) == 3
    for offered in names.values():
        assert CASES.keys() - {"models"} <= offered <= CASES.keys()


def test_packages_for_node_are_pinned_and_name_no_registry() -> None:
    package = json.loads((NODE / "package.json").read_text(encoding="utf-8"))
    lock = (NODE / "package-lock.json").read_text(encoding="utf-8")
    assert all(re.fullmatch(r"(npm:[@\w/-]+@)?[0-9.]+", version) for version in package["dependencies"].values())
    assert "resolved" not in lock
    assert "://" not in lock
    for name, entry in json.loads(lock)["packages"].items():
        assert not name or entry["integrity"].startswith("sha512-")


def test_every_change_meets_the_clients() -> None:
    assert "make clients" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
