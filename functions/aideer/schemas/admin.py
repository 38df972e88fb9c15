"""Schemas of the calls for administrators."""

from typing import Annotated, Literal

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
    rated_up: Annotated[int, Field(description="Answers that were rated up in this time, less those taken back.")]
    rated_down: int
    first_token: Annotated[
        dict[str, int],
        Field(
            description="Answers that were streamed from their start, by the milliseconds from the question to the first token. "
            "A name is the upper bound of its group: 250, 500, 1000, 2000, 4000, 8000, 16000, or `more`."
        ),
    ]


Uncovered = Annotated[
    dict[str, int],
    Field(description="Credits that the provider billed and no user paid, by the code of the end."),
]


class ModelStatistics(TaskStatistics):
    """The sums of one model's tasks."""

    model: str


class PresetRatings(BaseModel):
    """The ratings of answers in chats with a preset. They are below 0 if more ratings were taken back than given."""

    preset_id: str
    rated_up: int
    rated_down: int


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
    presets: Annotated[list[PresetRatings], Field(description="At most 100 presets, those with the most ratings.")]
    days: list[DayStatistics]


State = Literal["pending", "running", "finished", "stopped", "failed", "gone", "waiting", "done", "unknown"]


class DeadLetterResponse(BaseModel):
    """A message that failed five times, and what has become of its task or job."""

    queue: Annotated[
        Literal["tasks", "jobs"] | None,
        Field(description="The queue that it came from; null if the message does not tell."),
    ]
    task_id: Omitted[str] = None
    job: Annotated[Omitted[str], Field(description="The key of the job.")] = None
    state: Annotated[
        State,
        Field(
            description="The task's status, or `gone`; a job is `waiting` or `done`. Work is left if it is `pending` or `waiting`."
        ),
    ]
    error: Annotated[Omitted[str], Field(description="The error's code, if the task failed.")] = None
    since: str
    received: Annotated[int, Field(description="How often it was received. Each look counts too.")]


class DeadLettersResponse(BaseModel):
    """The messages that failed five times, oldest first: at most 100 of them."""

    count: Annotated[int, Field(description="About how many there are, those included that another look holds.")]
    letters: list[DeadLetterResponse]


class RedriveResponse(BaseModel):
    """The result of a redrive."""

    moved: Annotated[int, Field(description="Messages that are back on their queues.")]
    kept: Annotated[int, Field(description="Messages that tell no queue, and stay.")]
