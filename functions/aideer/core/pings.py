"""Pings: the invocations that keep a process of each function ready."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from aideer.core import aws, clock, warmth
from aideer.core.logs import logger

AT_ONCE = 2
"""Functions that are called at the same time. Every call takes concurrency from the account."""
SMALL = 100
"""An account with less concurrency than this keeps it for its streams."""
LAST_SECONDS = 35.0
"""Seconds before the end of the invocation after which no further call begins. A call lasts for at most 30."""


def ping_all(event: dict[str, Any], seconds: float) -> dict[str, int]:
    """Ping the functions that a rule's event names, within this many seconds. Return {"pinged": n, "failed": n}.

    If Lambda has no concurrency left, the rest is left out: a person needs it more.
    """
    names = [*event["functions"], *(event["streaming"] if event["concurrency"] >= SMALL else [])]
    give_up_at = clock.now() + seconds - LAST_SECONDS
    full = threading.Event()

    def ping(name: str) -> bool:
        if full.is_set() or clock.now() > give_up_at:
            return False
        try:
            answer = aws.get_client("lambda").invoke(FunctionName=name, Payload=json.dumps(warmth.PING).encode())
        except (BotoCoreError, ClientError) as error:
            code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
            if code == "TooManyRequestsException":
                full.set()
            logger.warning("ping", extra={"function": name, "error": code})
            return False
        answer["Payload"].read()  # or the connection could not be used again
        if "FunctionError" in answer:
            logger.warning("ping", extra={"function": name, "error": answer["FunctionError"]})
        return "FunctionError" not in answer

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answered = list(pool.map(ping, names))
    return {"pinged": sum(answered), "failed": len(answered) - sum(answered)}
