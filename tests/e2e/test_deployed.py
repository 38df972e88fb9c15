"""The template as it is deployed: the journey, and one call of every endpoint, with each function's own permissions."""

import io

import pytest
from rich.console import Console

from local.clients.client import Client
from local.clients.demo import Demo
from local.stack.settings import Settings
from local.stack.template import Function, Template
from tests.e2e.calls import ADMIN, Place, Someone, call, routed

FUNCTIONS = routed(Template())
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SAM CLI's


def test_the_journey(place: Place) -> None:
    settings = Settings.read(
        {
            "PORT": place.url.rpartition(":")[2],
            "ADMIN_USERNAME": ADMIN["username"],
            "ADMIN_PASSWORD": ADMIN["password"],
        }
    )
    shown = io.StringIO()
    with Client(place.url) as client, Client(place.url) as admin:
        Demo(client, admin, Console(file=shown), settings).run()
    assert "the sum of this ledger" in shown.getvalue()


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.module)
def test_every_endpoint_answers(place: Place, function: Function) -> None:
    answer = call(function, Someone(place))
    assert answer.status_code < 400, answer.text
