"""Which AWS actions each function really uses, noted while the tests run. tests/permissions compares them with the template.

A handler module is watched from its import on: whatever is called while its `handler` (or the stream's app) runs, in whichever
thread or task, is its function's. What tests call themselves, also in the midst of a handler's work, is nobody's.
"""

import contextvars
import functools
import importlib.machinery
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

from botocore.signers import S3PostPresigner

from local.stack.template import Template

Call = tuple[str, str, str]
"""A function's logical id, an IAM action, and the logical id of what it was used on, with what follows it in an ARN:
"TasksTable/index/open", "AvatarsBucket/avatars/"."""

STREAMING = {"tasks/stream.sh": "tasks.stream", "v1/serve.sh": "v1.serve"}
"""The modules of ASGI apps, by the scripts that start them."""
PARTS = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem"}
"""A transaction needs no action of its own, only those of its parts."""
SAME_ACTION = {
    "SendMessageBatch": "SendMessage",
    "ChangeMessageVisibilityBatch": "ChangeMessageVisibility",
    "HeadObject": "GetObject",
    "ListObjectsV2": "ListBucket",
}
SIGNS_A_FORM = ("CreateBucket",)
"""botocore builds the address of a signed form as if it made the bucket. A signed address of an object has its own operation."""
TESTS = str(Path(__file__).parent)
BOTTOMS = (__file__, "asyncio/events.py", "threading.py")
"""Files of the frames with which a handler's work begins: in its caller's stack, in a loop's, or in a thread's."""

_running: contextvars.ContextVar[str | None] = contextvars.ContextVar("function", default=None)


class Recorder:
    """What the functions of one process have called."""

    def __init__(self, resources: Mapping[str, Mapping[str, str]]) -> None:
        self.calls: set[Call] = set()
        self._named = {name: logical_id for logical_id, has in resources.items() for name in has.values()}
        functions = Template().functions.values()
        self._functions = {function.module: function.name for function in functions if function.runs_here}
        self._streaming = {
            STREAMING[function.handler]: function.name for function in functions if not function.runs_here
        }

    def start(self) -> None:
        """Watch what is imported and called from now on. Before any import of a handler, with aideer's environment set."""
        from aideer.core import aws, settings
        from aideer.prompts import prompts

        sys.meta_path.insert(0, _Watch({**self._functions, **self._streaming}, self._watch))
        ThreadPoolExecutor.submit = _submit_in_context(ThreadPoolExecutor.submit)  # type: ignore[method-assign]
        aws.shared_session().register("before-parameter-build.*.*", self._called)
        # What a process keeps is read by whichever function comes first here, and by each of them when deployed.
        aws.read_secret = self._kept(aws.read_secret, "secretsmanager:GetSecretValue", lambda arn: arn)
        S3PostPresigner.generate_presigned_post = self._signed(S3PostPresigner.generate_presigned_post)  # type: ignore[method-assign]
        prompts.get_preset = self._kept(prompts.get_preset, "dynamodb:GetItem", lambda *_: settings.PRESETS_TABLE)

    def _watch(self, module: Any) -> None:
        if module.__name__ in self._functions:
            module.handler = _running_as(self._functions[module.__name__], module.handler)
        if module.__name__ in self._streaming:
            module.app.add_middleware(_StreamingDoor, function=self._streaming[module.__name__])

    def _called(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        function = _function()
        if function and model.name not in SIGNS_A_FORM:
            service = model.service_model.service_name
            for operation, resource in _uses(model.name, params):
                action = f"{service}:{SAME_ACTION.get(operation, operation)}"
                self.calls.add((function, action, self._logical(resource)))

    def _kept(self, read: Any, action: str, resource: Callable[..., str]) -> Any:
        def noted(*arguments: Any) -> Any:
            if function := _function():
                self.calls.add((function, action, self._logical(resource(*arguments))))
            return read(*arguments)

        noted.__dict__.update(
            {name: getattr(read, name) for name in ("cache_clear", "cache_info") if hasattr(read, name)}
        )
        return noted

    def _signed(self, sign: Any) -> Any:
        """Note a form that is signed for a browser: whoever posts it acts as the function that signed it."""

        @functools.wraps(sign)
        def noted(*arguments: Any, fields: Any, conditions: Any, **named: Any) -> Any:
            if function := _function():
                params = {"Bucket": _find_condition("bucket", conditions), "Key": fields["key"]}
                for operation, used in _uses("PutObject", params):
                    self.calls.add((function, f"s3:{operation}", self._logical(used)))
            return sign(*arguments, fields=fields, conditions=conditions, **named)

        return noted

    def _logical(self, resource: str) -> str:
        name, slash, part = resource.partition("/")
        return self._named.get(name, name) + slash + part


def _function() -> str | None:
    """The function whose handler is at work, unless a test has put something of its own in between."""
    running = _running.get()
    frame: types.FrameType | None = sys._getframe(2) if running else None
    while frame:
        if frame.f_code.co_filename.endswith(BOTTOMS) and frame.f_code.co_name in (
            "watched",
            "__call__",
            "_run",
            "run",
        ):
            break
        if frame.f_code.co_filename.startswith(TESTS) and frame.f_code.co_filename != __file__:
            return None
        frame = frame.f_back
    return running


def _uses(operation: str, params: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The actions that an operation stands for, each with the name of a table, queue, secret or bucket."""
    if operation in ("TransactWriteItems", "TransactGetItems"):
        for item in params["TransactItems"]:
            for part, request in item.items():
                yield PARTS.get(part, "GetItem"), request["TableName"]
    elif operation in ("BatchGetItem", "BatchWriteItem"):
        for table in params["RequestItems"]:
            yield operation, table
    elif "TableName" in params:
        index = params.get("IndexName")
        yield operation, f"{params['TableName']}/index/{index}" if index else params["TableName"]
    elif "QueueUrl" in params:
        yield operation, params["QueueUrl"].rpartition("/")[2]
    elif "Bucket" in params:
        folder, slash, _ = params.get("Key", "").partition("/")
        yield operation, f"{params['Bucket']}/{folder}{slash}" if folder else params["Bucket"]
    else:
        yield operation, params.get("SecretId", "")


def _find_condition(name: str, conditions: Sequence[Any]) -> str:
    """The value that a form's policy demands of a field."""
    return next(str(condition[name]) for condition in conditions if isinstance(condition, dict) and name in condition)


def _running_as(function: str, handler: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    @functools.wraps(handler)
    def watched(event: Any, context: Any) -> Any:
        token = _running.set(function)
        try:
            return handler(event, context)
        finally:
            _running.reset(token)

    return watched


class _StreamingDoor:
    """An app of a Lambda URL. The stream's runs for the function behind the HTTP API too, whose handler has said so already."""

    def __init__(self, app: Any, function: str) -> None:
        self._app = app
        self._function = function

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and "aws.event" not in scope:
            token = _running.set(self._function)
            try:
                await self._app(scope, receive, send)
            finally:
                _running.reset(token)
        else:
            await self._app(scope, receive, send)


def _submit_in_context(submit: Any) -> Any:
    @functools.wraps(submit)
    def submitted(self: ThreadPoolExecutor, function: Any, /, *arguments: Any, **named: Any) -> Any:
        context = contextvars.copy_context()
        context.run(_running.set, _function())
        return submit(self, context.run, function, *arguments, **named)

    return submitted


class _Watch(MetaPathFinder):
    """Finds handler modules as Python does, and shows each to `seen` once it is executed."""

    def __init__(self, modules: Mapping[str, str], seen: Callable[[Any], None]) -> None:
        self._modules = modules
        self._seen = seen

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> Any:
        if fullname not in self._modules:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec and spec.loader:
            execute = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                execute(module)
                self._seen(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
