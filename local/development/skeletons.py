"""The texts that a new endpoint begins with. A TODO in them says what to write in its place.

tests/unit/test_functions.py refuses every TODO that is left.
"""

import json
from pathlib import Path

from local.development.endpoints import Endpoint

ID_TYPES = {
    "users": ("aideer.schemas.users", "UserId"),
    "chats": ("aideer.schemas.paths", "ChatId"),
    "chat": ("aideer.schemas.paths", "ChatId"),
    "presets": ("aideer.schemas.paths", "PresetId"),
    "preset": ("aideer.schemas.paths", "PresetId"),
}
"""The module and name of the type of `{id}`, by the segment before it. Other parameters are `str`."""
DONE = ("aideer.schemas.users", "DoneResponse")
HOST = "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com"
AGENT = "AIDeer/1.0 (iPhone; iOS 19.1)"


def write_handler(endpoint: Endpoint) -> str:
    """Return the handler file. ruff formats it."""
    types = {name: _type_of(name, before) for name, before in endpoint.parameters.items()}
    imports = {DONE, *(type_ for type_ in types.values() if type_)}
    lines = [
        f"from {module} import {', '.join(sorted(name for other, name in imports if other == module))}"
        for module in sorted({module for module, _ in imports})
    ]
    statuses = ", ".join(map(str, endpoint.errors)) + ("," if len(endpoint.errors) == 1 else "")
    errors = f", errors=({statuses})" if statuses else ""
    arguments = [f"user: {endpoint.caller}", *(f"{name}: {t[1] if t else 'str'}" for name, t in types.items())]
    route = endpoint.path.replace("{", "<").replace("}", ">")
    return f'''"""{endpoint.method} {endpoint.route}: TODO: say in half a sentence what the call does."""

{chr(10).join(lines)}
from aideer.security.callers import {endpoint.caller}
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.{endpoint.method.lower()}("{route}", **describe("TODO: name the action"{errors}))
def {endpoint.function}({", ".join(arguments)}) -> DoneResponse:
    """TODO: say in the imperative what the call does, and what it promises."""
    raise NotImplementedError("TODO: call the domain, and return a model of functions/aideer/schemas/")
'''


def write_resource(endpoint: Endpoint) -> str:
    """Return the function of template.yaml, with the permissions that checking an access token needs."""
    path = f'"{endpoint.path}"' if endpoint.parameters else endpoint.path
    return f"""\
  {endpoint.logical_id}:
    Type: AWS::Serverless::Function
    Properties:
      Description: "TODO: say in a few words what it does"
      Handler: {endpoint.module}.handler
      Events:
        Http: {{Type: HttpApi, Properties: {{ApiId: !Ref Api, Method: {endpoint.method}, Path: {path}}}}}
      Policies:
        - Statement:
            - {{Effect: Allow, Action: dynamodb:GetItem, Resource: !GetAtt UsersTable.Arn}}
            # TODO: add the few actions on the few tables that the call uses
            - {{Effect: Allow, Action: secretsmanager:GetSecretValue, Resource: !Ref SigningSecret}}

"""


def write_event(endpoint: Endpoint, ids: dict[str, str]) -> str:
    """Return the event that API Gateway makes of a request without a body."""
    path = endpoint.path.format(**ids)
    key = f"{endpoint.method} {endpoint.path}"
    event = {
        "version": "2.0",
        "routeKey": key,
        "rawPath": path,
        "rawQueryString": "",
        "headers": {
            "accept": "application/json",
            "authorization": "Bearer ACCESS_TOKEN",
            "host": HOST,
            "user-agent": AGENT,
            "x-amzn-trace-id": "Root=1-6921b2c0-3f8e1a7d5c9b40e26d1f8a3c",
            "x-forwarded-for": "203.0.113.7",
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
        },
        "requestContext": {
            "accountId": "123456789012",
            "apiId": HOST.partition(".")[0],
            "domainName": HOST,
            "domainPrefix": HOST.partition(".")[0],
            "http": {
                "method": endpoint.method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.7",
                "userAgent": AGENT,
            },
            "requestId": "UbnpQhqLoAMEJ0g=",
            "routeKey": key,
            "stage": "$default",
            "time": "22/Nov/2026:13:20:00 +0000",
            "timeEpoch": 1795353600000,
        },
        **({"pathParameters": ids} if ids else {}),
        "isBase64Encoded": False,
    }
    return json.dumps(event, indent=2, ensure_ascii=False) + "\n"


def write_row(endpoint: Endpoint) -> str:
    """Return the row of tests/route_matrix.py."""
    documented = sorted({200, *endpoint.errors, *([422] if endpoint.parameters else [])})
    statuses, cells = (" ".join(map(str, numbers)) for numbers in (documented, endpoint.statuses))
    return f"{endpoint.method:<6} {endpoint.route:<32} | access  | {statuses:<31} | {cells}\n"


def write_request(endpoint: Endpoint, known: set[str]) -> str:
    """Return the entry of SENT in tests/request_samples.py, or nothing if IDS knows each of the path's parameters."""
    if set(endpoint.parameters.values()) <= known:
        return ""
    values = [
        f'"{name}": IDS["{before}"](w)' if before in known else f'"{name}": "TODO: the {name} of a thing of the owner"'
        for name, before in endpoint.parameters.items()
    ]
    return f'    "{endpoint.module}": lambda w: Sent({{{", ".join(values)}}}),\n'


def write_example(endpoint: Endpoint) -> str:
    """Return the entry of local/docs/examples.yaml."""
    return f'  {endpoint.operation}:\n    200: {{message: "TODO: an example of the answer"}}\n'


def write_tests(endpoint: Endpoint) -> str:
    """Return the file of tests. Each fails until somebody writes it. ruff formats it."""
    arguments = "".join(f", {name}: str" for name in endpoint.parameters)
    call = f'"{endpoint.module}", "{endpoint.method}", {"f" if arguments else ""}"{endpoint.route}"'
    return f'''"""{endpoint.method} {endpoint.route}: TODO: say in half a sentence what these tests promise."""

from collections.abc import Callable

import pytest

from tests.support import Answer, Api, Person

MakePerson = Callable[..., Person]


def {endpoint.function}(api: Api, user: Person{arguments}) -> Answer:
    return api({call}, user=user)


def test_{endpoint.operation}_keeps_its_promise(api: Api, person: MakePerson) -> None:
    pytest.fail("TODO: call it, assert the answer and what has changed, and name the test after that promise")


def test_{endpoint.operation}_refuses(api: Api, person: MakePerson) -> None:
    pytest.fail("TODO: assert the status and the code of each refusal, and name the test after that promise")
'''


def find_todos(root: Path) -> list[str]:
    """Return each line with a TODO in the files of endpoints, as file, line number and text, in the order of the steps."""
    files = [
        *(path for path in sorted(root.glob("functions/*/*.py")) if path.parent.name != "aideer"),
        root / "template.yaml",
        *sorted(root.glob("events/*/*.json")),
        *(path for path in sorted(root.glob("tests/integration/test_*.py")) if path.name != "test_new_endpoint.py"),
        *(root / path for path in ("tests/route_matrix.py", "tests/request_samples.py", "local/docs/examples.yaml")),
    ]
    return [
        f"{path.relative_to(root)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if "TODO" in line
    ]


def _type_of(name: str, before: str) -> tuple[str, str] | None:
    return ID_TYPES.get(before) if name == "id" else None
