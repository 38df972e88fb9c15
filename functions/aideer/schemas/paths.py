"""Parameters of paths that several endpoints take."""

from typing import Annotated

from aws_lambda_powertools.event_handler.openapi.params import Path

ChatId = Annotated[str, Path(min_length=1, max_length=64)]
PresetId = Annotated[str, Path(min_length=1, max_length=64)]
