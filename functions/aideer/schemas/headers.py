"""Request headers that several endpoints take."""

from typing import Annotated

from aws_lambda_powertools.event_handler.openapi.params import Header

from aideer.data.idempotency import KEY_CHARACTERS

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=KEY_CHARACTERS,
        description="Makes a repetition harmless for 24 h.",
    ),
]
