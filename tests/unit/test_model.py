"""The short form of the state machine of tests/chaos/model.py, with DynamoDB's own rules.

Which write succeeds is decided by DynamoDB's conditions and transactions, so the machine is worth nothing without them. ministack
is a library here: it runs in this process, and no other test of the fast tier may call it.
"""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conftest import EMBEDDED_AWS, KEYS


@pytest.fixture
def tables(guarded: None, pytestconfig: pytest.Config) -> Iterator[None]:
    """The data resources of template.yaml, in this process."""
    aws = pytestconfig.stash[EMBEDDED_AWS]
    aws.refusal, refusal = None, aws.refusal
    aws.start(**KEYS)
    yield
    aws.refusal = refusal


@pytest.mark.usefixtures("tables")
def test_the_tables_say_what_the_model_says_after_every_event() -> None:
    from tests.chaos.cases import laboratory  # they import every handler, which the other fast tests do without
    from tests.chaos.model import Rules

    with laboratory() as lab:
        Rules.make_world = staticmethod(lab.world)
        run_state_machine_as_test(
            Rules,
            settings=settings(
                max_examples=10,
                stateful_step_count=30,
                deadline=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
