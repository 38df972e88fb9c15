"""Each function may do exactly what the tests have seen it do: no more, and no less. After a whole `make test`.

What a function does only on a bad day (a read that proves a write whose answer was lost) is seen where tests bring that day
about. So an action that stands here as never used is either not needed, or a path that no test goes.
"""

import pytest

from tests import policies
from tests.conftest import CALLS
from tests.recorder import Call


@pytest.fixture(scope="module")
def used(request: pytest.FixtureRequest) -> list[Call]:
    calls = request.config.cache.get(CALLS, None) if request.config.cache else None
    assert calls, "run `make test` first: it notes what each function uses"
    return [(function, action, resource) for function, action, resource in calls]


@pytest.mark.parametrize("function", policies.TEMPLATE.functions)
def test_a_function_may_do_what_it_does_and_no_more(function: str, used: list[Call]) -> None:
    policies.check_missing(function, used)
    needless = policies.find_needless(function, used)
    assert not needless, (
        f"the policies of {function} allow what it never does. Take from its Statement in template.yaml, or test it:\n"
        f"{policies.write_statements(needless)}"
    )
