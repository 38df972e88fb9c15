"""The cases: each scenario, with each of the calls that it really makes, broken in each way that call can be broken."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from unittest import mock

from aideer.core import settings
from local.simulators.dashscope import Server
from tests.chaos.fake_time import Clock, hurried
from tests.chaos.fault_injection import FAULTS, STALE, Abandoned, Call, Fault, Wire
from tests.chaos.harness import BROKEN, Violation, World, noted_bills
from tests.chaos.scenarios import Scenario


@dataclass(frozen=True, slots=True)
class Case:
    """One scenario with one call broken in one way."""

    scenario: type[Scenario]
    call: Call
    fault: Fault

    def __str__(self) -> str:
        return f"{self.scenario.name}; {self.call}; {self.fault.name}"


class Lab:
    """Where cases are run: one after the other, in this process."""

    def __init__(self, wire: Wire, moved: Clock, provider: Server) -> None:
        self.wire, self._clock, self._provider = wire, moved, provider
        self._struck = False
        self._calls: list[Call] = []

    @property
    def provider(self) -> Server:
        """The simulated DashScope."""
        return self._provider

    def world(self) -> World:
        """A world in which nothing is broken yet."""
        self.wire.arm()
        return World(self.wire, self._clock, self._provider)

    def cases(self, scenario: type[Scenario]) -> list[Case]:
        """All cases of a scenario, of the calls that it makes where nothing is broken. Raises where it breaks a rule even so."""
        violations = self._run(scenario, None)
        assert not violations, violations
        return [Case(scenario, call, fault) for call in self._calls for fault in FAULTS if fault.applies(call)]

    def run(self, case: Case) -> tuple[bool, list[Violation]]:
        """Whether the call came about and so was broken, and what it did that must not be."""
        violations = self._run(case.scenario, case)
        return self._struck, violations

    def _run(self, kind: type[Scenario], case: Case | None) -> list[Violation]:
        world = World(self.wire, self._clock, self._provider)
        scenario = kind(world)
        self.wire.arm(case and case.fault, case and case.call)
        with contextlib.suppress(Abandoned):
            scenario.act()
        self._struck, self._calls = self.wire.struck, self.wire.calls
        self.wire.arm()
        scenario.recover()
        violations = [*world.violations(), *scenario.check()]
        lagged = case is not None and case.fault.kind == STALE and self._struck
        if lagged and not all(answer and answer.status < 300 for answer in scenario.answers):
            violations.append(Violation(BROKEN, f"decided by a read that lagged: {scenario.answers[0]}"))
        return violations


@contextlib.contextmanager
def laboratory() -> Iterator[Lab]:
    """A lab in this process, whose environment names an embedded AWS, with a provider of its own."""
    with (
        Server(tokens=4, delay_ms=1) as provider,
        noted_bills(),
        mock.patch.object(settings, "DASHSCOPE_HTTP_BASE_URL", provider.base_url),
        hurried() as moved,
        Wire().in_place() as wire,
    ):
        yield Lab(wire, moved, provider)
