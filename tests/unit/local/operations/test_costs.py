"""The arithmetic of cost: docs/operations.md shows what the assumptions make, and the assumptions are what the project has."""

import math
from pathlib import Path

import pytest

from aideer.core import metrics
from aideer.security import limits
from aideer.tasks import control, executor, leases
from local.operations import costs
from local.stack.template import ROOT, Template

TEMPLATE = Template()
ALARMS = [r["Properties"] for r in TEMPLATE.document["Resources"].values() if r["Type"] == "AWS::CloudWatch::Alarm"]


def test_the_page_shows_what_the_assumptions_make() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    for table in (costs.units(), costs.table(), costs.cloudfront(), costs.warm()):
        assert table in page, "make docs writes it"


def test_the_tables_are_written_in_the_place_of_the_old_ones(tmp_path: Path) -> None:
    page = tmp_path / "operations.md"
    now = costs.PAGE.read_text(encoding="utf-8")
    page.write_text(now.replace("| **together** |", "| **once** |"), encoding="utf-8")
    costs.write(page)
    assert page.read_text(encoding="utf-8") == now
    page.write_text("# No table", encoding="utf-8")
    with pytest.raises(ValueError, match="0 tables that begin with"):
        costs.write(page)


def test_a_month_by_hand() -> None:
    """10 million answers, the greatest shares, without the code."""
    month = costs.Use.of(10_000_000).costs()
    assert math.isclose(month["DynamoDB, a million write units"], 10 * 65 * 0.625)
    gb_seconds = 10_000_000 * ((10.5 + 0.1) * 0.5 + 4 * 0.06) + 30 * 24 * 60 * 0.3
    gb_seconds += 30 * 24 * 12 * (costs.PINGED * 0.002 + 2 * 0.25)
    assert math.isclose(month["Lambda, GB-s"], gb_seconds * 0.0000166667)
    assert math.isclose(month["HTTP API, a million requests"], 40)
    free = costs.Use.of(10_000_000).costs(free=True)
    assert math.isclose(month["Lambda, GB-s"] - free["Lambda, GB-s"], 400_000 * 0.0000166667)
    assert min(costs.Use.of(0).costs(free=True).values()) == 0


def test_cloudfront_by_hand() -> None:
    """10 million answers: 50 million requests, each with one run of a function, and 600 GB."""
    added = 50 * 1.00 + 50 * 0.10 + 600 * 0.085 - 600 * 0.09
    free = (50 - 10) * 1.00 + (50 - 2) * 0.10 - (600 - 100) * 0.09
    last = [row.split("|")[-2].strip() for row in costs.cloudfront().splitlines()]
    assert last[-2:] == [f"**{added:.2f}**", f"**{free:.2f}**"]


def test_the_assumptions_are_the_templates_and_the_engines() -> None:
    functions = TEMPLATE.functions
    assert functions["TasksStreamFunction"].memory == costs.EXECUTOR_GB * 1024
    assert functions["TasksCreateFunction"].memory == costs.MEMORY_GB * 1024
    assert functions["OperationsKeepWarmFunction"].memory == costs.PINGING_GB * 1024
    assert functions["TasksSweepFunction"].events[0].properties["Schedule"] == "rate(1 minute)"
    assert TEMPLATE.document["Parameters"]["LeaseSeconds"]["Default"] == 45
    assert costs.SECONDS < 45 / 3, "no renewal"
    assert round(costs.SECONDS / executor.STOP_SECONDS) == costs.READS["look for a stop, every 0.7 s"]
    assert executor.FLUSH_ATTENDED == 1.0
    assert leases.SHARDS == 8
    kinds = [*control.ERRORS, *(limits.DEFAULTS.keys() - {"follow_task"})]  # a displaced follower counts as `follow`
    assert len(metrics.UNITS) + len(kinds) + 1 == costs.METRICS, "and ErrorsLogged"
    watched = sum(1 if "MetricName" in a else sum("MetricStat" in q for q in a["Metrics"]) for a in ALARMS)
    assert watched == costs.ALARM_METRICS
    resources = TEMPLATE.document["Resources"].values()
    secrets = [r for r in resources if r["Type"] == "AWS::SecretsManager::Secret" and "Condition" not in r]
    assert len(secrets) == costs.SECRETS
