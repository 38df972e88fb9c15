"""Health."""

from typing import Literal

from pydantic import BaseModel


class Health(BaseModel):
    """It answers."""

    status: Literal["ok"]
    version: str
