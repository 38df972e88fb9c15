"""Metrics: log lines in CloudWatch's embedded metric format. They need no call, no wait and no import.

A metric is written once, as soon as the counted event is certain. Without a namespace, as on a laptop, no metric is written.
No user is named, because each value of a dimension is another metric, which has its own price.
"""

import json
import sys
from collections.abc import Mapping

from aideer.core import clock, settings

UNITS = {
    "TimeToFirstToken": "Milliseconds",  # from POST /tasks to the first text, if a viewer streams the answer
    "ProviderTimeToFirstToken": "Milliseconds",  # the provider's part of it
    "AnswersFinished": "Count",
    "AnswersStopped": "Count",
    "AnswersFailed": "Count",  # also by code
    "InputTokens": "Count",  # for all three kinds of answers
    "OutputTokens": "Count",
    "CreditsSettled": "Count",
    "UncoveredCredits": "Count",  # the provider bills them and no user pays them; also by code
    "AnswersUncounted": "Count",  # finished answers without usage reported by the provider: they were free
    "Shortfalls": "Count",  # credits by which answers cost more than their holds; no user pays them
    "ProviderFailures": "Count",  # answers that failed because of the provider
    "ProviderThrottles": "Count",  # the provider's refusals for lack of capacity that were retried
    "HoldsOutstanding": "Count",  # open tasks, each with its hold, as the sweeper finds them
    "ExpiredLeases": "Count",  # answers whose executor was lost
    "Throttles": "Count",  # attempts refused by rate limits, also by kind (rate_limits.py)
    "ReconciliationDrift": "Count",
    "UsersReconciled": "Count",
}
"""All metrics of AIDeer. The dashboard and the alarms of template.yaml name no other metric of AIDeer."""

_SERVICE = "aideer"


def emit(values: Mapping[str, float], **by: str) -> None:
    """Write these metrics for the service and, with `by`, also for that dimension's value."""
    if not settings.METRICS_NAMESPACE:
        return
    about = {
        "Namespace": settings.METRICS_NAMESPACE,
        "Dimensions": [["service"], ["service", *by]] if by else [["service"]],
        "Metrics": [{"Name": name, "Unit": UNITS[name]} for name in values],
    }
    line = {"_aws": {"Timestamp": int(clock.now() * 1000), "CloudWatchMetrics": [about]}, "service": _SERVICE, **by}
    # In one call, because other threads write here too.
    sys.stdout.write(json.dumps({**line, **values}) + "\n")
    sys.stdout.flush()
