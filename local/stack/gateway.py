"""API Gateway's HTTP API: the SAM CLI's gateway, with a runner from this project in the place of its containers.

It makes Lambda's events from requests, and responses from Lambda's answers. This module repairs the differences to the deployed
service: text and binary bodies, request ids, slashes, preflight requests, 404 and 405, bodies that are too large, and functions
that fail. The module edge.py does the work before a route is looked up.
"""

import base64
import json
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any, cast

from flask import Response, abort, jsonify, request
from samcli.lib.providers.api_provider import ApiProvider
from samcli.lib.providers.provider import Cors
from samcli.lib.providers.sam_stack_provider import SamLocalStackProvider
from samcli.local.apigw.local_apigw_service import LocalApigwService
from samcli.local.apigw.route import Route

from local.stack.invocation import InvocationError, TimedOutError
from local.stack.template import Function, Template
from local.stack.workers import WorkerDiedError

MAX_BODY = 10 * 1024 * 1024
MAX_EVENT = 6 * 1024 * 1024
"""Lambda's limit, in bytes. A binary body counts as its base64."""
ANSWERS = {
    404: (404, "Not Found"),
    405: (404, "Not Found"),
    413: (413, "Request Entity Too Large"),
    500: (500, "Internal Server Error"),
}
"""API Gateway's own answers, for statuses at which the SAM CLI answers differently."""
TEXT_TYPES = {"application/json", "application/javascript", "application/xml", ""}


class Gateway(LocalApigwService):  # type: ignore[misc] # the SAM CLI has no types
    """The SAM CLI's gateway, with its differences to the deployed one repaired.

    Parameters
    ----------
    template
        The template with the HTTP API.
    port
        The port of the API, which events name.
    invoke
        Runs the given function with an event.
    """

    def __init__(self, template: Template, port: int, invoke: Callable[[Function, str], str]) -> None:
        stacks, _ = SamLocalStackProvider.get_stacks(str(template.path))
        api = ApiProvider(stacks, cwd=str(template.path.parent)).api
        api.binary_media_types_set.add("*/*")  # _generate_lambda_event() decodes text bodies
        runner: Any = Runner(template, invoke)
        super().__init__(api=api, lambda_runner=runner, port=port, host="127.0.0.1")
        self.create()
        self.wsgi = cast("Any", self._app)
        """The WSGI application."""
        self.wsgi.config["MAX_CONTENT_LENGTH"] = MAX_BODY
        self.wsgi.url_map.merge_slashes = False  # a path matches a route exactly, or no route
        for rule in self.wsgi.url_map.iter_rules():
            rule.strict_slashes = True
        self.wsgi.before_request(_refuse_leading_slashes)
        if self.api.cors:
            self.wsgi.before_request(self._preflight)
        for status, answer in ANSWERS.items():
            self.wsgi.register_error_handler(status, _answer(*answer))
        exposed = ", ".join(_cors(template).get("ExposeHeaders", ()))
        self.wsgi.after_request(lambda answer: _exposing(answer, exposed))

    def _preflight(self) -> Response | None:
        """Answer an OPTIONS request. With CORS, API Gateway itself answers it for every path."""
        if request.method != "OPTIONS":
            return None
        answer = Response(
            status=204, headers=Cors.cors_to_headers(self.api.cors, request.headers.get("Origin"), Route.HTTP)
        )
        del answer.headers["Content-Type"]
        return answer

    def _get_current_route(self, flask_request: Any) -> Any:
        try:
            return super()._get_current_route(flask_request)
        except KeyError:
            abort(404)  # HEAD: Flask adds it to every GET, but the template has no route for it

    def _generate_lambda_event(self, flask_request: Any, route: Any, method: str, endpoint: str) -> dict[str, Any]:
        event: dict[str, Any] = super()._generate_lambda_event(flask_request, route, method, endpoint)
        now = time.time()
        event["requestContext"]["http"]["userAgent"] = flask_request.user_agent.string
        event["requestContext"].update(
            requestId=str(uuid.uuid4()),
            time=time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
            timeEpoch=int(now * 1000),
        )
        body = base64.b64decode(event.pop("body") or "")
        event["isBase64Encoded"] = False
        if not body:
            return event
        text = _text(body) if _is_text(flask_request.mimetype) else None
        if text is None:
            event.update(body=base64.b64encode(body).decode(), isBase64Encoded=True)
        else:
            event["body"] = text
        return event


class Runner:
    """The runner that LocalApigwService calls to run a function."""

    def __init__(self, template: Template, invoke: Callable[[Function, str], str]) -> None:
        self._functions = template.functions
        self._invoke = invoke

    def is_debugging(self) -> bool:
        """Return False: there is no container to attach to."""
        return False

    def invoke(self, function_name: str, event: str, *_: object, stdout: Any, **__: object) -> None:
        """Write the function's answer to stdout, or API Gateway's own answer if the function fails."""
        if _is_too_large(event):
            stdout.write_str(_failure(413, "Request Entity Too Large"))
            return
        try:
            answer = self._invoke(self._functions[function_name], event)
        except InvocationError:
            answer = _failure(500, "Internal Server Error")
        except WorkerDiedError:
            print(f"ERROR {function_name}: its process died", file=sys.stderr, flush=True)
            answer = _failure(500, "Internal Server Error")
        except TimedOutError:
            print(
                f"ERROR {function_name}: it timed out, or waited too long for a free worker",
                file=sys.stderr,
                flush=True,
            )
            answer = _failure(503, "Service Unavailable")
        stdout.write_str(answer)


def _refuse_leading_slashes() -> None:
    if request.environ["PATH_INFO"].startswith("//"):  # werkzeug would take it for a single slash
        abort(404)


def _is_too_large(event: str) -> bool:
    """Return whether Lambda would refuse the event. The SAM CLI escapes all text beyond ASCII; API Gateway does not."""
    return (
        len(event) > MAX_EVENT
        and len(json.dumps(json.loads(event), ensure_ascii=False).encode(errors="surrogatepass")) > MAX_EVENT
    )


def _cors(template: Template) -> dict[str, Any]:
    apis = [r for r in template.document["Resources"].values() if r["Type"] == "AWS::Serverless::HttpApi"]
    found: dict[str, Any] = apis[0]["Properties"].get("CorsConfiguration", {}) if apis else {}
    return found


def _exposing(answer: Response, headers: str) -> Response:
    """Add Access-Control-Expose-Headers, because the SAM CLI's CORS does not know ExposeHeaders."""
    if headers and "Access-Control-Allow-Origin" in answer.headers:
        answer.headers["Access-Control-Expose-Headers"] = headers
    return answer


def _is_text(mimetype: str) -> bool:
    return mimetype.startswith("text/") or mimetype in TEXT_TYPES or mimetype.endswith(("+json", "+xml"))


def _text(body: bytes) -> str | None:
    """Decode a body. Return None if it is not UTF-8, because it is then binary, whichever type its header names."""
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def _failure(status: int, message: str) -> str:
    return json.dumps(
        {
            "statusCode": status,
            "headers": {"Content-Type": "application/json"},
            "body": json.dumps({"message": message}),
        }
    )


def _answer(status: int, message: str) -> Callable[..., Response]:
    def handler(*_: object) -> Response:
        response = jsonify({"message": message})
        response.status_code = status
        return response

    return handler
