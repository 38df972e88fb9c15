"""The parameters that follow from the account's concurrency, and what the operator is told of it."""

from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from local.release.concurrency import CAPS, UNRESERVED, Concurrency, pending
from local.release.findings import Level


@pytest.mark.parametrize(
    ("limit", "unreserved", "own", "production", "streams", "v1"),
    [
        (1000, 1000, {}, True, "500", "200"),
        # Deployed again: its own reservations do not count against it.
        (1000, 300, {"StreamConcurrency": 500, "CompletionConcurrency": 200}, True, "500", "200"),
        (1000, 500, {"StreamConcurrency": 500}, True, "500", "200"),  # deployed before /v1 had a cap
        (1000, 1000, {}, False, "50", "20"),
        (1000, 300, {}, True, "200", ""),  # other functions of the account have reserved the rest
        (1000, 750, {}, True, "500", "150"),
        (5000, 5000, {}, True, "2500", "1000"),
        (10, 10, {}, True, "", ""),  # a new account cannot reserve anything
        (105, 105, {}, True, "", ""),
        (1000, 100, {}, True, "", ""),
    ],
)
def test_streams_and_completions_get_shares_that_lambda_can_reserve(
    limit: int, unreserved: int, own: dict[str, int], production: bool, streams: str, v1: str
) -> None:
    found = Concurrency(limit, unreserved, own).parameters({}, production=production)
    assert found == {"AccountConcurrency": str(limit), "StreamConcurrency": streams, "CompletionConcurrency": v1}


@given(
    st.integers(1, 6000),
    st.integers(0, 6000),
    st.dictionaries(st.sampled_from(sorted(CAPS)), st.integers(0, 3000)),
    st.dictionaries(st.sampled_from(sorted(CAPS)), st.sampled_from(["", "none", "1", "40", "800"])),
    st.booleans(),
)
def test_what_is_filled_in_always_fits_beside_what_the_operator_said(
    limit: int, unreserved: int, own: dict[str, int], kept: dict[str, str], production: bool
) -> None:
    concurrency = Concurrency(limit, unreserved, own)
    caps = concurrency.parameters(kept, production=production)
    filled = sum(int(caps[name]) for name in CAPS if not kept.get(name) and caps[name])
    said = sum(int(value) for value in kept.values() if value.isdecimal())
    assert not filled or filled + said <= unreserved + sum(own.values()) - UNRESERVED
    assert {name: caps[name] for name, value in kept.items() if value} == {n: v for n, v in kept.items() if v}


def test_a_limit_that_grew_reaches_the_alarm_and_an_empty_cap() -> None:
    small = Concurrency(10, 10).parameters({}, production=True)
    assert Concurrency(1000, 1000).parameters(small, production=True) == {
        "AccountConcurrency": "1000",
        "StreamConcurrency": "500",
        "CompletionConcurrency": "200",
    }


def test_an_operators_cap_leaves_what_remains_to_the_other_one() -> None:
    concurrency = Concurrency(1000, 1000)
    assert concurrency.parameters({"StreamConcurrency": "800"}, production=True)["CompletionConcurrency"] == "100"
    assert concurrency.parameters({"CompletionConcurrency": "700"}, production=True)["StreamConcurrency"] == "200"
    assert "CompletionConcurrency is 200, and Lambda would refuse it" in told(
        concurrency, Level.REFUSAL, StreamConcurrency="800", CompletionConcurrency="200"
    )


def told(concurrency: Concurrency, level: Level, **kept: str) -> str:
    found = concurrency.findings(kept, "eu-west-1", "aws", production=True)
    return "\n".join(finding.text for finding in found if finding.level is level)


def test_a_new_account_is_told_where_to_ask_for_more_and_what_to_do_until_then() -> None:
    said = told(Concurrency(10, 10), Level.WARNING)
    assert "at most 10 requests and streams" in said
    assert "https://eu-west-1.console.aws.amazon.com/servicequotas/home/services/lambda/quotas/L-B99A9384" in said
    assert "--desired-value 1000 --region eu-west-1" in said
    assert "Set QueueConcurrency to 2" in said
    assert told(Concurrency(10, 10), Level.REFUSAL) == ""


def test_a_cap_that_lambda_would_refuse_is_refused_before() -> None:
    assert "Set it to 500" in told(Concurrency(1000, 1000), Level.REFUSAL, StreamConcurrency="901")
    assert "Set it to 200" in told(Concurrency(1000, 1000), Level.REFUSAL, CompletionConcurrency="901")
    assert told(Concurrency(1000, 1000), Level.REFUSAL, StreamConcurrency="900") == ""


@pytest.mark.parametrize("name", [*CAPS, "QueueConcurrency"])
def test_a_cap_that_is_no_number_is_refused_with_what_it_may_be(name: str) -> None:
    assert f"{name} is many. It must be a number" in told(Concurrency(1000, 1000), Level.REFUSAL, **{name: "many"})


class Quotas:
    """Service Quotas with these requests, or without the permission to see them."""

    def __init__(self, *statuses: str, allowed: bool = True) -> None:
        self._statuses, self._allowed = statuses, allowed

    def list_requested_service_quota_change_history_by_quota(self, **asked: str) -> dict[str, Any]:
        if not self._allowed:
            raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "ListRequested")
        assert asked == {"ServiceCode": "lambda", "QuotaCode": "L-B99A9384"}
        return {"RequestedQuotas": [{"Status": status, "DesiredValue": 1000.0} for status in self._statuses]}


def test_an_open_request_for_more_is_told() -> None:
    found = pending(Quotas("DENIED", "CASE_OPENED"))
    assert found is not None
    assert found.text == "A request for 1000 is open at AWS (CASE_OPENED)."
    assert pending(Quotas("APPROVED")) is None
    assert pending(Quotas("PENDING", allowed=False)) is None


def test_a_cap_from_smaller_days_is_told() -> None:
    assert "would allow 2500 by now" in told(Concurrency(5000, 5000), Level.WARNING, StreamConcurrency="500")


def test_an_ordinary_account_has_no_warning() -> None:
    assert told(Concurrency(1000, 1000), Level.WARNING) == ""
    assert "1,000 requests" in told(Concurrency(1000, 1000), Level.FINE)


def test_no_cap_is_the_operators_choice_and_is_told() -> None:
    assert (
        Concurrency(1000, 1000).parameters({"StreamConcurrency": "none"}, production=True)["StreamConcurrency"]
        == "none"
    )
    assert "can take the room" in told(Concurrency(1000, 1000), Level.WARNING, StreamConcurrency="none")
