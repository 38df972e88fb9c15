"""local/operations/costs.py counts request units of DynamoDB for one answer: these are the calls that it counts."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aideer.data.base import connection
from tests.stream_client import streamed
from tests.support import Api, Person, make_chat

MakePerson = Callable[..., Person]


@pytest.fixture
def calls() -> Iterator[Callable[[], tuple[list[str], list[str]]]]:
    """What was called since it was last asked: (writes and reads by table, with transactions' parts as T)."""
    found: list[str] = []

    def note(params: dict[str, Any], model: Any, **_: object) -> None:
        body = json.loads(params["body"])
        parts = [part for item in body.get("TransactItems", []) for part in item.items()]
        batch = [(model.name, {"TableName": table}) for table in body.get("RequestItems", {})]
        for operation, part in parts or batch or [(model.name, body)]:
            table = part["TableName"].split("-")[1].removesuffix("Table")
            found.append(f"{'T ' if parts else ''}{operation} {table}")

    def taken() -> tuple[list[str], list[str]]:
        calls = sorted(found)
        found.clear()
        reads = [call for call in calls if call.startswith(("GetItem", "BatchGetItem", "Query"))]
        return [call for call in calls if call not in reads], reads

    events = connection().client.meta.events
    events.register("before-call.dynamodb.*", note)
    yield taken
    events.unregister("before-call.dynamodb.*", note)


def test_one_answer(api: Api, person: MakePerson, calls: Any) -> None:
    me = person()
    chat = make_chat(me, "hello")
    calls()
    message = {"messages": [{"role": "user", "content": "and now?"}]}
    api("chats.append", "POST", f"/chats/{chat.id}/messages", json=message, user=me, parameters={"id": chat.id})
    assert calls() == (["T Put Messages", "T Put Records", "T Update Chats"], ["GetItem Chats", "GetItem Users"])
    headers = {"Idempotency-Key": "k"}
    answer = api("tasks.create", "POST", "/tasks", json={"chat_id": chat.id, "stream": True}, user=me, headers=headers)
    assert calls() == (
        [
            *("T ConditionCheck Records", "T Put Records", "T Put Records", "T Put Tasks", "T Update Chats"),
            *("T Update Records", "T Update Records", "T Update Users"),
        ],
        ["GetItem Chats", "GetItem Presets", "Query Messages"],
    )
    path = answer.json["stream_url"].removeprefix("http://stream.test")
    assert streamed(path).status_code == 200
    writes, reads = calls()
    assert [write for write in writes if write.startswith("T")] == [
        "T Put Credits",
        "T Put Messages",
        "T Put Records",
        "T Update Chats",
        "T Update Records",
        "T Update Tasks",
        "T Update Users",
    ]
    others = [write for write in writes if not write.startswith("T")]
    assert set(others) == {"PutItem TaskEvents", "UpdateItem Records", "UpdateItem Tasks"}
    # Less the looks for a stop. A preset that this process has read before is read no more.
    batch = ["BatchGetItem Chats", "BatchGetItem Messages", "BatchGetItem Users"]
    assert [read for read in reads if read.startswith("Batch")] == batch
    assert set(reads) - {"GetItem Presets", *batch} == {"GetItem Tasks", "GetItem Users", "Query Messages"}
