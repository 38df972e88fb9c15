"""Reserves what the names of release 0.1 look like: no endpoint, an operator invokes it after the update, as often as it says."""

from typing import Any

from aideer import lookalikes


def handler(event: dict[str, Any], context: Any) -> dict[str, int | bool]:  # noqa: ARG001 - Lambda gives it
    return lookalikes.reserve_all(context.get_remaining_time_in_millis() / 1000 - 5)
