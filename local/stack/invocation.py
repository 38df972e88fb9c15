"""One invocation of a handler, as Lambda's runtime does it: the context object, and the treatment of exceptions."""

import importlib
import json
import sys
import time
import traceback
import uuid
from dataclasses import dataclass, field
from typing import Any

from local.stack.state import ACCOUNT, REGION


class InvocationError(Exception):
    """A handler raised an error, or its return value is no JSON. The error has been logged."""


class TimedOutError(Exception):
    """A handler took longer than its function's timeout."""


@dataclass(frozen=True)
class Context:
    """A handler's second argument."""

    function_name: str
    handler: str
    timeout: float
    memory_limit_in_mb: int
    aws_request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    started_at: float = field(default_factory=time.time)
    function_version: str = "$LATEST"
    identity: None = None
    client_context: None = None

    @property
    def invoked_function_arn(self) -> str:
        """The function's ARN."""
        return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{self.function_name}"

    @property
    def log_group_name(self) -> str:
        """The name of Lambda's log group for the function."""
        return f"/aws/lambda/{self.function_name}"

    @property
    def log_stream_name(self) -> str:
        """The name of the log stream in that group."""
        return f"{time.strftime('%Y/%m/%d')}/[$LATEST]local"

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until the function is ended."""
        return max(0, int((self.started_at + self.timeout - time.time()) * 1000))


def run(event: Any, context: Context) -> str:
    """Call a handler and return its answer as JSON.

    Raises
    ------
    InvocationError
        The handler raised an error, or its answer is no JSON.
    """
    module, _, name = context.handler.rpartition(".")
    try:
        return json.dumps(getattr(importlib.import_module(module), name)(event, context))
    except Exception as error:
        print(f"ERROR {context.handler} request {context.aws_request_id}", file=sys.stderr)
        traceback.print_exc()
        sys.stderr.flush()
        raise InvocationError(type(error).__name__) from error
