"""`python -m local.operations.restore`: a table gets back what a restored copy of it has."""

from typing import Any
from uuid import uuid4

import botocore.session
import pytest

from aideer.data import changes
from local.operations import restore


@pytest.fixture
def dynamodb() -> Any:
    return botocore.session.get_session().create_client("dynamodb")


def made(dynamodb: Any, items: dict[str, str]) -> str:
    name = f"t{uuid4().hex}"
    dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in ("pk", "sk")],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    )
    for key, value in items.items():
        dynamodb.put_item(TableName=name, Item={"pk": {"S": key}, "sk": {"S": "x"}, "value": {"S": value}})
    return name


def items(dynamodb: Any, table: str) -> dict[str, str]:
    pages = dynamodb.get_paginator("scan").paginate(TableName=table)
    return {item["pk"]["S"]: item["value"]["S"] for page in pages for item in page["Items"]}


def test_what_differs_is_written_and_what_is_newer_stays(dynamodb: Any, capsys: pytest.CaptureFixture[str]) -> None:
    before = {f"k{n}": "old" for n in range(130)}
    copy = made(dynamodb, before)
    table = made(dynamodb, {"k0": "old", "k1": "spoilt", "new": "new"})
    assert restore.main([copy, table]) == 0
    assert capsys.readouterr().out == "129 written, 0 deleted\n"
    assert items(dynamodb, table) == before | {"new": "new"}
    assert restore.main([copy, table]) == 0, "again, as after a break"
    assert capsys.readouterr().out == "0 written, 0 deleted\n"


def test_exactly_leaves_nothing_else(dynamodb: Any, capsys: pytest.CaptureFixture[str]) -> None:
    copy = made(dynamodb, {"a": "1"})
    table = made(dynamodb, {f"n{n}": "x" for n in range(60)} | {"a": "1"})
    assert restore.main([copy, table, "--exactly"]) == 0
    assert capsys.readouterr().out == "0 written, 60 deleted\n"
    assert items(dynamodb, table) == {"a": "1"}


@pytest.mark.parametrize("exactly", [["--exactly"], []])
def test_feeds_of_changes_begin_anew(dynamodb: Any, exactly: list[str]) -> None:
    copy = made(dynamodb, {"changes#u": "old", "a": "1"})
    table = made(dynamodb, {"changes#u": "new", "changes#v": "new", "a": "2"})
    assert restore.main([copy, table, *exactly]) == 0
    assert items(dynamodb, table) == {"a": "1"}
    assert changes.key("") == restore.FEED


def test_a_table_that_is_not_there_is_an_error_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert restore.main(["no-such-copy", "no-such-table"]) == 1
    assert "no" in capsys.readouterr().err
