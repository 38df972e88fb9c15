"""A process of .venv/clients: it asks by openai-python, and says when each piece of the answer arrived.

It reads questions from stdin, a JSON object a line: `base_url`, `api_key` and the arguments of `chat.completions.create`. For
each, it prints a line: `asked`, and `pieces` as [time, text]. Times are in seconds, of time.perf_counter() of this process.
This file imports nothing of the project, because that venv has none of it.
"""

import gc
import importlib
import json
import sys
import time
from typing import Any

TIMEOUT_SECONDS = 60.0


def ask(base_url: str, api_key: str, **arguments: Any) -> dict[str, Any]:
    """Ask once, on a connection of its own that is opened within the measured time."""
    openai = importlib.import_module("openai")
    with openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=0, timeout=TIMEOUT_SECONDS) as client:
        gc.collect()
        gc.disable()
        pieces: list[tuple[float, str]] = []
        asked = time.perf_counter()
        for chunk in client.chat.completions.create(**arguments, stream=True):
            if chunk.choices and (text := chunk.choices[0].delta.content):
                pieces.append((time.perf_counter(), text))
        gc.enable()
    return {"asked": asked, "pieces": pieces}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(ask(**json.loads(line))), flush=True)
