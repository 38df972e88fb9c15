"""tests/unit/conftest.py: a test that is not for the fast tier fails there, and is told where it belongs."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

from aideer.core import aws
from aideer.data.base import connection

SENT_AWAY = r"tests/integration"


def read_an_item() -> None:
    connection().client.get_item(TableName="UsersTable", Key={"id": {"S": "x"}})


def send_a_message() -> None:
    aws.enqueue(os.environ["TASKS_QUEUE_URL"], {"task_id": "x"})


@pytest.mark.parametrize("call", [read_an_item, send_a_message, lambda: aws.read_secret("another")])
def test_a_call_of_aws_is_refused(call: Callable[[], None]) -> None:
    with pytest.raises(pytest.fail.Exception, match=rf"calls AWS\. .*{SENT_AWAY}"):
        call()


def test_a_process_is_refused() -> None:
    with pytest.raises(pytest.fail.Exception, match=rf"starts a process .*{SENT_AWAY}"):
        subprocess.run([sys.executable, "-c", "pass"], check=True)


def test_another_machine_is_refused() -> None:
    with socket.socket() as line, pytest.raises(pytest.fail.Exception, match=rf"192\.0\.2\.1\. .*{SENT_AWAY}"):
        line.connect(("192.0.2.1", 80))


def test_this_machine_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as line:
        assert line.getpeername() == server.getsockname()
