"""Metrics: log lines out of which CloudWatch reads numbers (its embedded metric format). No call, no wait, and nothing to load.

A number is written where what it counts has just happened, once, after it is certain. Without a namespace nothing is written,
as on a laptop. No user is named: each value of a dimension is another metric, and has its price.
"""

import json
import sys
from collections.abc import Mapping

from aideer import clock, settings

UNITS = {
    "TimeToFirstToken": "Milliseconds",  # from POST /tasks to the first text, where somebody watches
    "ProviderTimeToFirstToken": "Milliseconds",  # of that, what the provider took
    "AnswersFinished": "Count",
    "AnswersStopped": "Count",
    "AnswersFailed": "Count",  # and by code
    "InputTokens": "Count",  # of all three
    "OutputTokens": "Count",
    "CreditsSettled": "Count",
    "UncoveredCredits": "Count",  # what the provider bills and no user pays, and by code
    "AnswersUncounted": "Count",  # billed ends of which the provider reported no usage: they were free
    "Shortfalls": "Count",  # credits by which an answer cost more than its hold, which nobody pays
    "ProviderFailures": "Count",  # answers that failed through the provider's fault
    "ProviderThrottles": "Count",  # refusals for lack of room that were tried again
    "HoldsOutstanding": "Count",  # open tasks, each with its hold, as the sweep finds them
    "ExpiredLeases": "Count",  # answers whose executor was lost
    "Throttles": "Count",  # refused attempts, and by kind (throttling.py)
    "ReconciliationDrift": "Count",
    "UsersReconciled": "Count",
}
"""Every metric that there is. The dashboard and the alarms of template.yaml name no other of ours."""

_SERVICE = "aideer"


def emit(values: Mapping[str, float], **by: str) -> None:
    """Write these numbers, each for the service and, with `by`, also for that dimension's value."""
    if not settings.METRICS_NAMESPACE:
        return
    about = {
        "Namespace": settings.METRICS_NAMESPACE,
        "Dimensions": [["service"], ["service", *by]] if by else [["service"]],
        "Metrics": [{"Name": name, "Unit": UNITS[name]} for name in values],
    }
    line = {"_aws": {"Timestamp": int(clock.now() * 1000), "CloudWatchMetrics": [about]}, "service": _SERVICE, **by}
    # In one piece, as threads write here too.
    sys.stdout.write(json.dumps({**line, **values}) + "\n")
    sys.stdout.flush()
