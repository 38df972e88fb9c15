"""Parameters of paths that several endpoints take."""

from typing import Annotated

from aws_lambda_powertools.event_handler.openapi.params import Path

ChatId = Annotated[str, Path(min_length=1, max_length=64)]
PresetId = Annotated[str, Path(min_length=1, max_length=64)]
UploadId = Annotated[str, Path(min_length=1, max_length=64)]
MessageNumber = Annotated[int, Path(ge=1, le=2**53, description="The message's n.")]
