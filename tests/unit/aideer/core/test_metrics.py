"""Metrics are log lines in CloudWatch's embedded metric format."""

import json
import time

import pytest

from aideer.core import metrics, settings


def written(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_line_says_what_cloudwatch_reads(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "METRICS_NAMESPACE", "aideer-stage")
    monkeypatch.setattr(metrics.clock, "now", lambda: 1_790_000_000.25)
    metrics.emit({"InputTokens": 12, "TimeToFirstToken": 345.5})
    metrics.emit({"AnswersFailed": 1}, code="throttled")
    plain, by_code = written(capsys)
    assert plain == {
        "_aws": {
            "Timestamp": 1_790_000_000_250,
            "CloudWatchMetrics": [
                {
                    "Namespace": "aideer-stage",
                    "Dimensions": [["service"]],
                    "Metrics": [
                        {"Name": "InputTokens", "Unit": "Count"},
                        {"Name": "TimeToFirstToken", "Unit": "Milliseconds"},
                    ],
                }
            ],
        },
        "service": "aideer",
        "InputTokens": 12,
        "TimeToFirstToken": 345.5,
    }
    [about] = by_code["_aws"]["CloudWatchMetrics"]  # type: ignore[index]
    assert about["Dimensions"] == [["service"], ["service", "code"]], "the sum of all, and each"
    assert by_code["code"] == "throttled"


def test_without_a_namespace_nothing_is_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "METRICS_NAMESPACE", "")
    metrics.emit({"InputTokens": 12})
    assert capsys.readouterr().out == ""


def test_an_unknown_metric_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "METRICS_NAMESPACE", "aideer")
    with pytest.raises(KeyError):
        metrics.emit({"Nonsense": 1})


def test_a_line_costs_next_to_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "METRICS_NAMESPACE", "aideer")
    fastest = 1.0
    for _ in range(200):
        began = time.perf_counter()
        metrics.emit({"AnswersFinished": 1, "CreditsSettled": 7, "InputTokens": 12, "OutputTokens": 90})
        fastest = min(fastest, time.perf_counter() - began)
    assert fastest < 0.001
