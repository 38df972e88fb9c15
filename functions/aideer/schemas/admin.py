"""Schemas of the calls for administrators."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from aideer.schemas.strings import Omitted
from aideer.security import audit_trail


class AuditEntryResponse(BaseModel):
    """One action of an administrator. An entry has ids only, and no text of users."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    admin_id: Annotated[str, Field(validation_alias="actor_id")]
    action: audit_trail.Action
    user_id: Annotated[str | None, Field(description="The id of the owner; null if there is none.")]
    about: Annotated[str | None, Field(description="The id of the chat, preset or batch, or the code.")]
    reason: Annotated[str | None, Field(description="The value of X-Reason.")]
    create_time: str


class Drift(BaseModel):
    """A credit rule that does not hold, and the ids that it does not hold for."""

    rule: Annotated[str, Field(description="I1 to I5: docs/reconciliation.md says what they are.")]
    user_id: Omitted[str] = None
    task_id: Omitted[str] = None
    entry_id: Omitted[str] = None
    code: Omitted[str] = None


class ReconciliationRun(BaseModel):
    """One check of all credits, with the numbers of what it has checked so far."""

    id: str
    started: str
    ended: str | None
    users: int
    entries: Annotated[int, Field(description="Lines of ledgers that were read.")]
    tasks: int
    codes: int
    moving: Annotated[int, Field(description="Users and codes that changed whenever they were looked at.")]
    drifts: Annotated[dict[str, int], Field(description="How many, by rule.")]
    examples: Annotated[list[Drift], Field(description="The first hundred.")]


class ReconciliationResponse(BaseModel):
    """The last run that has ended, and the run in progress."""

    last: ReconciliationRun | None
    running: ReconciliationRun | None


class TaskStatistics(BaseModel):
    """The sums over tasks."""

    tasks: Annotated[int, Field(description="Billed ones: finished or stopped.")]
    failed: int
    input_tokens: int
    output_tokens: int
    credits: Annotated[int, Field(description="Spent on them.")]


Uncovered = Annotated[
    dict[str, int],
    Field(description="Credits that the provider billed and no user paid, by the code of the end."),
]


class ModelStatistics(TaskStatistics):
    """The sums of one model's tasks."""

    model: str


class UserStatistics(BaseModel):
    """The number of users now, and the numbers of sign-ups and deletions in these days."""

    total: int
    signed_up: int
    deleted: int


class DayStatistics(TaskStatistics):
    """One day, in UTC."""

    day: str
    signed_up: int
    deleted: int
    uncovered: Uncovered
    models: list[ModelStatistics]


class StatisticsResponse(TaskStatistics):
    """The sums over the days from the first to the last, and over each day, including empty ones."""

    model_config = ConfigDict(populate_by_name=True)

    first: Annotated[str, Field(alias="from")]
    last: Annotated[str, Field(alias="to")]
    users: UserStatistics
    uncovered: Uncovered
    models: list[ModelStatistics]
    days: list[DayStatistics]
