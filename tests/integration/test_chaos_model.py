"""The short form of the state machine of tests/chaos/model.py."""

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.chaos.cases import laboratory
from tests.chaos.model import Rules


def test_the_tables_say_what_the_model_says_after_every_event() -> None:
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
