"""Every permission is needed: a function whose policy lacks one statement is refused, and that shows."""

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from local.stack.template import Function, Template
from tests.e2e.calls import Place, Someone, prepared, routed, sent
from tests.e2e.cloud import Cloud

SAMPLE = {
    *("users.create", "users.me", "users.redeem", "users.like_preset", "session.create", "session.delete"),
    *(
        "presets.create",
        "presets.update",
        "chats.create",
        "presets.delete",
        "tasks.create",
        "tasks.quote",
        "codes.create",
    ),
}
FUNCTIONS = [function for function in routed(Template()) if function.module in SAMPLE]
NOT_NEEDED = {
    "users.like_preset": ("AuditTable",),
    "users.usage": ("RecordsTable",),
    "users.end_sessions": ("RecordsTable",),
    "session.create": ("WechatSecret",),
    "presets.create": ("AuditTable",),
    "presets.update": ("AuditTable",),
    "presets.delete": ("AuditTable",),
    "chats.create": ("AuditTable", "UploadsTable"),
    "tasks.create": ("AuditTable", "/index/", "UploadsTable"),
    "tasks.quote": ("TasksTable", "UploadsTable"),
    "changes.list": ("ChatsTable", "/index/"),
}
"""Statements that the call of a function's event does not use. Acts of administrators, WeChat refreshes, answers made
again, first chats, other sessions and much reading use them; tests/permissions compares them with the calls of the other tests."""
KEPT = ("secretsmanager:", "PresetsTable")
"""What a process reads once: to see it refused, it must start anew."""
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SAM CLI's


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.module)
def test_without_one_of_its_statements_a_function_is_refused(cloud: Cloud, place: Place, function: Function) -> None:
    role = cloud.role(function.name)
    [policy] = cloud.iam.list_role_policies(RoleName=role)["PolicyNames"]
    document = cloud.iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
    unnoticed = []
    spare = NOT_NEEDED.get(function.module, ())
    needed = [s for s in document["Statement"] if not any(name in str(s["Resource"]) for name in spare)]
    assert len(document["Statement"]) - len(needed) == len(spare)
    for statement in needed:
        request = prepared(function, Someone(place))
        with lacking(cloud, function, (role, policy), document, statement):
            began = time.time()
            answer = sent(request)
            if answer.status_code < 500 and not _logged(cloud, function, began):
                unnoticed.append((statement, answer.status_code, answer.text))
    assert document["Statement"]
    assert unnoticed == []
    answer = sent(prepared(function, Someone(place)))
    assert answer.status_code < 400, f"with all of them again: {answer.text}"


def _logged(cloud: Cloud, function: Function, since: float) -> bool:
    """Whether the refusal is in the log, of a call that could do without: such a task is queued by the sweep."""
    for _ in range(150):
        if cloud.complaints(function.name, since):
            return True
        time.sleep(0.1)  # a log may come a moment after the answer
    return False


@contextlib.contextmanager
def lacking(
    cloud: Cloud, function: Function, place: tuple[str, str], document: dict[str, Any], statement: dict[str, Any]
) -> Iterator[None]:
    """A function's policy with all its statements but one."""
    role, policy = place
    rest = [other for other in document["Statement"] if other is not statement]
    kept = any(name in json.dumps(statement) for name in KEPT)
    _put(cloud, role, policy, {**document, "Statement": rest})
    if kept:
        cloud.forget(function.name)
    try:
        yield
    finally:
        _put(cloud, role, policy, document)


def _put(cloud: Cloud, role: str, policy: str, document: dict[str, Any]) -> None:
    cloud.iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(document))
