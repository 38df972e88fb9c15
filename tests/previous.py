"""What release 0.1.0 stored, put into the embedded AWS as it was: tests/fixtures/release-0.1.0/README.md.

Ids, hashes and signatures depend on each other, so the items are loaded as they are, into empty tables, and the clock stands at
the moment at which they were written.
"""

import json
import math
import time
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

import jwt
import pytest

from aideer.core import aws, clock
from aideer.data.base import connection
from aideer.data.models import Chat, Code, CreditEntry, Identity, Message, Preset, Record, Task, TaskEvent, User
from local.simulators.wechat import Server as WeChat
from local.simulators.wechat import _Code as WeChatCode
from tests.embedded_aws import empty_tables
from tests.support import Person

FOLDER = Path(__file__).parent / "fixtures" / "release-0.1.0"
TABLES: dict[str, Any] = {
    "users": User,
    "identities": Identity,
    "presets": Preset,
    "chats": Chat,
    "messages": Message,
    "tasks": Task,
    "task-events": TaskEvent,
    "credits": CreditEntry,
    "codes": Code,
    "records": Record,
}


def read(name: str) -> Any:
    """One of the fixture's files."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def items(table: str) -> list[dict[str, Any]]:
    """The stored items of a table, in DynamoDB's attribute format."""
    found: list[dict[str, Any]] = read(f"items-{table}")
    return found


def old_cost(tariff: dict[str, Any], usage: dict[str, int], *, thought: bool) -> int:
    """What release 0.1.0 charges for this usage: prices are credits per 1,000 tokens, rounded up once."""
    tier = next((tier for tier in tariff["tiers"] if usage["input_tokens"] <= tier["up_to"]), tariff["tiers"][-1])
    output = tier.get("thinking", tier["output"]) if thought or usage.get("reasoning_tokens") else tier["output"]
    return math.ceil((usage["input_tokens"] * tier["input"] + usage["output_tokens"] * output) / 1000)


class Release:
    """The release's data, loaded. Names are those of make.py: `release.tasks["running"]` is a task's id."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, weixin: WeChat) -> None:
        names, tokens = read("names"), read("tokens")
        self.users: dict[str, dict[str, Any]] = names["users"]
        self.presets: dict[str, str] = names["presets"]
        self.chats: dict[str, str] = names["chats"]
        self.tasks: dict[str, str] = names["tasks"]
        self.codes: dict[str, str] = names["codes"]
        self.tokens: dict[str, dict[str, Any]] = tokens["people"]
        self.ahead = 0.0
        """Seconds by which the clock was moved on since."""
        began = time.monotonic()

        def now() -> float:
            return float(names["made_at"]) + time.monotonic() - began + self.ahead

        class Then(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = UTC) -> datetime:
                return datetime.fromtimestamp(now(), tz)

        monkeypatch.setattr(clock, "now", now)
        monkeypatch.setattr(jwt.api_jwt, "datetime", Then)
        monkeypatch.setattr(aws, "read_signing_keys", lambda: [tokens["key"]])
        for openid, session_key in names["session_keys"].items():  # WeChat knows them still
            weixin._state.session_keys[openid] = session_key
            weixin._state.codes[openid] = WeChatCode("mini", openid, None, 0, used=True)
        empty_tables()
        for table, model in TABLES.items():
            put(model.Meta.table_name, items(table))

    def person(self, name: str) -> Person:
        """One of its users, with the tokens that it gave them."""
        user, tokens = self.users[name], self.tokens[name]
        return Person(user["id"], user["username"] or "", user["password"] or "", tokens["access"], tokens["refresh"])

    def rewind(self, name: str) -> None:
        """Open a task again that has ended since."""
        task = self.task(name)
        for table, id_ in (("users", task.user_id), ("chats", task.chat_id), ("tasks", task.id)):
            put(TABLES[table].Meta.table_name, [item for item in items(table) if item["id"] == {"S": id_}])
        if task.entry_id:
            CreditEntry(task.user_id, task.entry_id).delete()
        Message(task.thread, task.answer_n).delete()

    def task(self, name: str) -> Task:
        """One of its tasks, as stored now."""
        return Task.get(self.tasks[name], consistent_read=True)


def put(table: str, new: list[dict[str, Any]]) -> None:
    """Write raw items."""
    for start in range(0, len(new), 25):
        requests = [{"PutRequest": {"Item": item}} for item in new[start : start + 25]]
        connection().client.batch_write_item(RequestItems={table: requests})
