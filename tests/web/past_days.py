"""Statistics of thirty made-up days for the pictures of the console: python -m tests.web.past_days STATE_DIR"""

import math
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from local.stack.state import Stack
from tests.web.stack import ROOT

SHARES = {"qwen-plus": 0.62, "qwen3-max": 0.23, "deepseek-v3.2": 0.15}
COSTS = {"qwen-plus": 9, "qwen3-max": 31, "deepseek-v3.2": 14}
SPEEDS = {
    "first_token_250": 0.12,
    "first_token_500": 0.47,
    "first_token_1000": 0.27,
    "first_token_2000": 0.1,
    "first_token_4000": 0.04,
}


def day_of(n: int) -> dict[str, object]:
    """Return the sums of the day that is n days ago: a week's rhythm, on a rising line."""
    answers = round((260 - 4 * n) * (1 + 0.25 * math.sin(n * math.tau / 7)) + 17 * ((n * 7) % 5))
    models = {}
    for model, share in SHARES.items():
        tasks = round(answers * share)
        models[model] = {
            "tasks": tasks,
            "failed": tasks // 90,
            "input_tokens": tasks * 640,
            "output_tokens": tasks * 380,
            "credits": tasks * COSTS[model],
            "rated_up": tasks // 14,
            "rated_down": tasks // 95,
            **{name: round(tasks * part) for name, part in SPEEDS.items()},
        }
    return {
        "models": models,
        "users": {"users": 9 + (n * 5) % 7, "deleted": n % 9 == 4},
        "uncovered": {},
        "presets": {},
    }


def main() -> None:
    """Write the days into the stack's table, as the function that sums finished days does."""
    os.environ.update(Stack.wait(Path(sys.argv[1])).environment)
    sys.path.insert(0, str(ROOT / "functions"))
    from aideer.billing import counters
    from aideer.data.models import Record

    today = datetime.now(UTC).date()
    Record(counters.TOTAL, f"{counters.USERS}#made-up", users=1_284).save()
    for n in range(30):
        Record("statistics#sums", (today - timedelta(n)).isoformat(), data=day_of(n)).save()


if __name__ == "__main__":
    main()
