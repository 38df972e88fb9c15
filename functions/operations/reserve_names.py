"""Reserve the names that look like those of release 0.1.

It has no endpoint: an operator invokes it after the update, again and again until the result has "done": true.
"""

from typing import Any

from aideer.accounts import lookalikes
from aideer.core.warmth import answers_pings


@answers_pings
def handler(event: dict[str, Any], context: Any) -> dict[str, int | bool]:  # noqa: ARG001 - Lambda gives it
    return lookalikes.reserve_all(context.get_remaining_time_in_millis() / 1000 - 5)
