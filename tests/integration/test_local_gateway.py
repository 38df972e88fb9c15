"""The local API Gateway answers as the deployed one does, where the SAM CLI's own does not."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from local.stack.gateway import Gateway
from local.stack.invocation import InvocationError, TimedOutError
from local.stack.template import Function, Template
from local.stack.workers import WorkerDiedError

# Of the SAM CLI, about its own libraries.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Globals: {Function: {CodeUri: ., Runtime: python3.13, Timeout: 29}}
Resources:
  Api:
    Type: AWS::Serverless::HttpApi
    Properties: {CorsConfiguration: {AllowOrigins: ["https://app.test"], AllowMethods: [GET, POST], ExposeHeaders: [ETag, Link]}}
  ThingsGet:
    Type: AWS::Serverless::Function
    Properties:
      Handler: things.get.handler
      Events:
        Http: {Type: HttpApi, Properties: {ApiId: !Ref Api, Method: GET, Path: "/things/{id}"}}
        All: {Type: HttpApi, Properties: {ApiId: !Ref Api, Method: GET, Path: /things}}
        Head: {Type: HttpApi, Properties: {ApiId: !Ref Api, Method: HEAD, Path: /things}}
  ThingsCreate:
    Type: AWS::Serverless::Function
    Properties:
      Handler: things.create.handler
      Events: {Http: {Type: HttpApi, Properties: {ApiId: !Ref Api, Method: POST, Path: /things}}}
"""


class Recorder:
    """Stands in for the functions: keeps the events, and answers or fails as told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.error: Exception | None = None

    def __call__(self, function: Function, event: str) -> str:
        self.calls.append((function.handler, json.loads(event)))
        if self.error:
            raise self.error
        return json.dumps({"statusCode": 201, "headers": {"Content-Type": "application/json"}, "body": "{}"})

    @property
    def event(self) -> dict[str, Any]:
        return self.calls[-1][1]


@pytest.fixture
def invoked() -> Recorder:
    return Recorder()


@pytest.fixture
def client(tmp_path: Path, invoked: Recorder) -> Client:
    path = tmp_path / "template.yaml"
    path.write_text(TEMPLATE)
    return Client(Gateway(Template(path), 8000, invoked).wsgi)


def test_a_request_reaches_its_function(client: Client, invoked: Recorder) -> None:
    answer = client.get("/things/7?a=1&a=2", headers={"User-Agent": "phone"})

    assert (answer.status_code, answer.json) == (201, {})
    handler, event = invoked.calls[0]
    assert handler == "things.get.handler"
    assert event["routeKey"] == "GET /things/{id}"
    assert event["pathParameters"] == {"id": "7"}
    assert event["rawQueryString"] == "a=1&a=2"
    assert event["requestContext"]["http"]["userAgent"] == "phone"
    assert "body" not in event


def test_requests_have_ids_of_their_own(client: Client, invoked: Recorder) -> None:
    client.get("/things/7")
    client.get("/things/7")

    assert len({event["requestContext"]["requestId"] for _, event in invoked.calls}) == 2


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *[("GET", "/nothing"), ("DELETE", "/things"), ("HEAD", "/things/7"), ("PATCH", "/things/7")],
        *[("GET", "/things/"), ("GET", "//things"), ("GET", "/things//7"), ("GET", "/things/7/"), ("POST", "/things/")],
        *[("HEAD", "/things/"), ("GET", "/things/7//")],
    ],
)
def test_what_has_no_route_is_not_found(client: Client, invoked: Recorder, method: str, path: str) -> None:
    answer = client.open(path, method=method)

    assert answer.status_code == 404
    assert method == "HEAD" or answer.json == {"message": "Not Found"}
    assert not invoked.calls


def test_json_and_text_arrive_as_text(client: Client, invoked: Recorder) -> None:
    for content_type in ("application/json", "application/merge-patch+json; charset=utf-8", "text/plain"):
        client.post("/things", data='{"text": "你好🙂"}'.encode(), content_type=content_type)
        assert (invoked.event["body"], invoked.event["isBase64Encoded"]) == ('{"text": "你好🙂"}', False)


def test_an_upload_arrives_as_it_was_sent(client: Client, invoked: Recorder) -> None:
    image = b"\xff\xd8\xff\x00 not UTF-8"

    client.post("/things", data={"file": (io.BytesIO(image), "me.jpg")}, content_type="multipart/form-data")

    assert invoked.event["isBase64Encoded"] is True
    assert image in base64.b64decode(invoked.event["body"])


def test_a_form_is_base64(client: Client, invoked: Recorder) -> None:
    client.post("/things", data={"username": "ann"})

    assert (base64.b64decode(invoked.event["body"]), invoked.event["isBase64Encoded"]) == (b"username=ann", True)


def test_json_that_is_not_utf8_reaches_the_function(client: Client, invoked: Recorder) -> None:
    answer = client.post("/things", data=b'{"text": "\xff"}', content_type="application/json")

    assert answer.status_code == 201
    assert base64.b64decode(invoked.event["body"]) == b'{"text": "\xff"}'
    assert invoked.event["isBase64Encoded"] is True


def test_a_body_above_ten_megabytes_is_refused(client: Client, invoked: Recorder) -> None:
    answer = client.post("/things", data=b" " * (10 * 1024 * 1024 + 1), content_type="application/json")

    assert (answer.status_code, answer.json) == (413, {"message": "Request Entity Too Large"})
    assert not invoked.calls


def test_a_body_that_lambda_would_not_take_is_refused(client: Client, invoked: Recorder) -> None:
    """An upload grows by a third on its way: 4.5 MB pass, 5 MB do not, which is above what the API takes."""

    def upload(size: int) -> Any:
        return client.post("/things", data=b"\xff" * size, content_type="multipart/form-data; boundary=x")

    assert upload(4_500_000).status_code == 201
    answer = upload(5_000_000)
    assert (answer.status_code, answer.json) == (413, {"message": "Request Entity Too Large"})
    assert len(invoked.calls) == 1


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (InvocationError("KeyError"), 500, "Internal Server Error"),
        (WorkerDiedError(), 500, "Internal Server Error"),
        (TimedOutError(), 503, "Service Unavailable"),
    ],
)
def test_a_function_that_fails(client: Client, invoked: Recorder, error: Exception, status: int, message: str) -> None:
    invoked.error = error

    answer = client.get("/things/7")

    assert (answer.status_code, answer.json) == (status, {"message": message})


def test_head_reaches_the_function_where_the_template_routes_it(client: Client, invoked: Recorder) -> None:
    answer = client.head("/things")

    assert (answer.status_code, answer.data) == (201, b"")
    assert invoked.event["requestContext"]["http"]["method"] == "HEAD"


@pytest.mark.parametrize("path", ["/things", "/things/7", "/nothing"])
def test_a_preflight_is_answered_by_the_gateway_itself(client: Client, invoked: Recorder, path: str) -> None:
    headers = {"Origin": "https://app.test", "Access-Control-Request-Method": "POST"}
    answer = client.options(path, headers=headers)

    assert (answer.status_code, answer.data) == (204, b"")
    assert "Content-Type" not in answer.headers
    assert {"GET", "POST"} <= set(answer.headers["Access-Control-Allow-Methods"].split(","))
    assert "Access-Control-Allow-Origin" not in client.options(path, headers={"Origin": "https://evil.test"}).headers
    assert not invoked.calls


def test_cors_is_the_templates(client: Client) -> None:
    preflight = {"Origin": "https://app.test", "Access-Control-Request-Method": "POST"}
    answer = client.options("/things", headers=preflight)

    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.test"
    answer = client.get("/things/7", headers=preflight)
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.test"
    assert answer.headers["Access-Control-Expose-Headers"] == "ETag, Link"
    answer = client.get("/things/7", headers={"Origin": "https://evil.test"})
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert "Access-Control-Expose-Headers" not in answer.headers
