"""The parameters that follow from the account's concurrency, and what the operator is told of it."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.release.concurrency import Concurrency, pending
from local.release.findings import Level


@pytest.mark.parametrize(
    ("limit", "unreserved", "own", "production", "streams"),
    [
        (1000, 1000, 0, True, "500"),
        (1000, 500, 500, True, "500"),  # deployed again: its own reservation does not count against it
        (1000, 1000, 0, False, "50"),
        (1000, 300, 0, True, "200"),  # other functions of the account have reserved the rest
        (5000, 5000, 0, True, "2500"),
        (10, 10, 0, True, ""),  # a new account cannot reserve anything
        (105, 105, 0, True, ""),
        (1000, 100, 0, True, ""),
    ],
)
def test_streams_get_a_share_that_lambda_can_reserve(
    limit: int, unreserved: int, own: int, production: bool, streams: str
) -> None:
    found = Concurrency(limit, unreserved, own).parameters({}, production=production)
    assert found == {"AccountConcurrency": str(limit), "StreamConcurrency": streams}


def test_a_limit_that_grew_reaches_the_alarm_and_an_empty_cap() -> None:
    small = Concurrency(10, 10).parameters({}, production=True)
    assert Concurrency(1000, 1000).parameters(small, production=True) == {
        "AccountConcurrency": "1000",
        "StreamConcurrency": "500",
    }


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
    assert told(Concurrency(1000, 1000), Level.REFUSAL, StreamConcurrency="900") == ""


@pytest.mark.parametrize("name", ["StreamConcurrency", "QueueConcurrency"])
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
