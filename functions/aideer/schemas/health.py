"""Health."""

from typing import Literal

from pydantic import BaseModel


class HealthResponse(BaseModel):
    """The API answers."""

    status: Literal["ok"]
    version: str
