"""The short form of the hostile user of tests/chaos/hostile.py."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.chaos.hostile import playground

pytestmark = pytest.mark.early


def test_whatever_a_hostile_user_does_the_provider_s_bill_is_paid_or_counted() -> None:
    with playground() as machine:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=12,
                stateful_step_count=40,
                deadline=None,
                phases=[Phase.generate],
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
