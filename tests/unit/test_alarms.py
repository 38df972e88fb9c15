"""template.yaml's alarms about DynamoDB: every table is watched, and no alarm takes more metrics than CloudWatch lets it."""

from collections import Counter

import pytest

from local.stack.template import Template

MOST_METRICS = 10
"""Of one alarm."""
RESOURCES = Template().document["Resources"]
ALARMS = {name: r["Properties"] for name, r in RESOURCES.items() if r["Type"] == "AWS::CloudWatch::Alarm"}
TABLES = {name: r["Properties"] for name, r in RESOURCES.items() if r["Type"] == "AWS::DynamoDB::Table"}
SELDOM_WRITTEN = {"PresetsTable", "UploadsTable"}
"""Their indexes are left out: five metrics for what nobody writes often."""


def watched(metric: str) -> Counter[tuple[str, ...]]:
    """(table,) or (table, index) of each time that an alarm looks at this metric of DynamoDB."""
    found: Counter[tuple[str, ...]] = Counter()
    for alarm in ALARMS.values():
        for query in alarm.get("Metrics", []):
            stat = query.get("MetricStat", {}).get("Metric", {})
            if stat.get("Namespace") == "AWS/DynamoDB" and stat["MetricName"] == metric:
                dimensions = {d["Name"]: d["Value"] for d in stat["Dimensions"]}
                index = dimensions.get("GlobalSecondaryIndexName")
                found[(dimensions["TableName"]["Ref"], *([index] if index else []))] += 1
    return found


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_takes_no_more_metrics_than_it_may(name: str) -> None:
    queries = [query for query in ALARMS[name].get("Metrics", []) if "MetricStat" in query]
    assert len(queries) <= MOST_METRICS


@pytest.mark.parametrize("metric", ["ReadThrottleEvents", "WriteThrottleEvents"])
def test_every_table_is_watched_once(metric: str) -> None:
    tables = {target: times for target, times in watched(metric).items() if len(target) == 1}
    assert tables == {(name,): 1 for name in TABLES}


def test_every_index_that_is_written_often_is_watched_once() -> None:
    indexes = {target: times for target, times in watched("WriteThrottleEvents").items() if len(target) == 2}
    assert indexes == {
        (name, index["IndexName"]): 1
        for name, table in TABLES.items()
        if name not in SELDOM_WRITTEN
        for index in table.get("GlobalSecondaryIndexes", [])
    }
