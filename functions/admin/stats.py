"""GET /api/v1/admin/stats: users, tasks, tokens and credits, by day and by model."""

from typing import Annotated

from aws_lambda_powertools.event_handler.openapi.params import Query

from aideer.billing import statistics
from aideer.schemas.admin import StatisticsResponse
from aideer.security.callers import Admin
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]

DAY = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
From = Annotated[
    str | None, Query(alias="from", pattern=DAY, description="A day, in UTC; 30 days up to `to` without it.")
]
To = Annotated[str | None, Query(alias="to", pattern=DAY, description="A day, in UTC; today without it.")]


@app.get("/api/v1/admin/stats", **describe("Statistics by day and by model", errors=(403,)))
def show(_: Admin, first: From = None, last: To = None) -> StatisticsResponse:
    """Sum up at most 92 days. A task counts on the day on which it ended."""
    return statistics.read(first, last)
