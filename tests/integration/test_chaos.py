"""The short form of `make chaos`: of each scenario some calls, broken in some of the ways; and a few real deaths."""

import random
from collections.abc import Iterator

import pytest

from tests.chaos import __main__ as long_run
from tests.chaos import kills
from tests.chaos.cases import Lab, laboratory
from tests.chaos.report import Counted, Row
from tests.chaos.scenarios import SCENARIOS, Scenario

pytestmark = pytest.mark.early

CASES = 4
"""Of each scenario. Which ones is the same in every run."""
KILLS = 4


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with laboratory() as ours:
        yield ours


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_nothing_is_lost_and_nothing_paid_twice_whatever_breaks(lab: Lab, scenario: type[Scenario]) -> None:
    cases = lab.cases(scenario)
    broken = {str(case): lab.run(case)[1] for case in random.Random(scenario.name).sample(cases, CASES)}
    assert {name: violations for name, violations in broken.items() if violations} == {}


def test_what_a_killed_process_was_at_is_mended(lab: Lab) -> None:
    with kills.victims(lab) as victims:
        for instant in kills.instants(lab, victims, KILLS):
            assert kills.strike(lab, victims, instant).violations == []


def test_the_parts_of_a_long_run_have_each_scenario_once_and_add_up() -> None:
    names = [scenario.name for scenario in SCENARIOS]
    parts = list(long_run.slices(names))
    assert sorted(name for part in parts for name in part.scenarios) == sorted(names)
    whole = Counted(every=2)
    for number in (1, 2):
        whole.add(Counted(2, {"refused": Row("how", number)}, {f"s{number}": (1, 1)}, kills=number, broken=number))
    assert (whole.every, whole.rows["refused"].cases, whole.kills, whole.bad) == (2, 3, 3, 3)
    assert whole.scenarios == {"s1": (1, 1), "s2": (1, 1)}
