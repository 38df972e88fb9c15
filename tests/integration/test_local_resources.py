"""The data resources of the local stack: made from the template, changed with it, and not lost."""

import copy
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.stack import prepare, resources
from local.stack.processes import ROOT, listener, own_environment
from local.stack.template import Template
from tests.waiting import until


def _table(key: str, *indexes: str) -> dict[str, Any]:
    return {
        "Type": "AWS::DynamoDB::Table",
        "Properties": {
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name in (key, *indexes)],
            "KeySchema": [{"AttributeName": key, "KeyType": "HASH"}],
            **(
                {
                    "GlobalSecondaryIndexes": [
                        {
                            "IndexName": f"by_{name}",
                            "KeySchema": [{"AttributeName": name, "KeyType": "HASH"}],
                            "Projection": {"ProjectionType": "ALL"},
                        }
                        for name in indexes
                    ]
                }
                if indexes
                else {}
            ),
        },
    }


DOCUMENT: dict[str, Any] = {
    "Parameters": {
        "Mode": {"Type": "String", "Default": "plain"},
        "Origins": {"Type": "CommaDelimitedList", "Default": "a, b"},
    },
    "Conditions": {"Plain": {"Fn::Equals": [{"Ref": "Mode"}, "plain"]}},
    "Globals": {
        "Function": {
            "Timeout": 29,
            "Environment": {
                "Variables": {
                    "TABLE": {"Ref": "Things"},
                    "QUEUE_URL": {"Ref": "Queue"},
                    "SECRET_ARN": {"Ref": "Signing"},
                    "EMPTY": "",
                    "AWS_ENDPOINT_URL": "",
                }
            },
        }
    },
    "Resources": {
        "Things": _table("id"),
        "Queue": {"Type": "AWS::SQS::Queue", "Properties": {"VisibilityTimeout": 30}},
        "Signing": {
            "Type": "AWS::SecretsManager::Secret",
            "Properties": {"GenerateSecretString": {"SecretStringTemplate": "{}", "GenerateStringKey": "current"}},
        },
        "Function": {
            "Type": "AWS::Serverless::Function",
            "Properties": {
                "Handler": "things.get.handler",
                "Timeout": 5,
                "Environment": {
                    "Variables": {
                        "EMPTY": {"Fn::If": ["Plain", {"Fn::Sub": "${AWS::Region}:${Things.Arn}"}, "no"]},
                        "ORIGINS": {"Ref": "Origins"},
                        "AWS_LWA_PORT": "8080",
                    }
                },
            },
        },
    },
}


def _template(folder: Path, document: dict[str, Any]) -> Template:
    path = folder / "template.yaml"
    path.write_text(yaml.safe_dump(document))
    return Template(path)


@pytest.fixture
def document() -> dict[str, Any]:
    return copy.deepcopy(DOCUMENT)


RESOURCES = {
    "Things": {"Ref": "things-1", "Arn": "arn:things-1"},
    "Queue": {"Ref": "queue-1", "Arn": "arn:queue-1", "QueueName": "queue-1"},
    "Signing": {"Ref": "arn:signing", "Arn": "arn:signing"},
}


def test_the_environment_is_the_templates(tmp_path: Path, document: dict[str, Any]) -> None:
    environment = resources.environment(_template(tmp_path, document), "http://127.0.0.1:1", RESOURCES, {"EXTRA": "1"})

    assert environment["TABLE"] == "things-1"
    assert environment["QUEUE_URL"] == "http://127.0.0.1:1/000000000000/queue-1"
    assert environment["SECRET_ARN"] == "arn:signing"
    assert environment["EMPTY"] == "us-east-1:arn:things-1"  # what one function knows wins over what is left empty
    assert environment["ORIGINS"] == "a,b"
    assert environment["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
    assert environment["EXTRA"] == "1"
    assert "AWS_LWA_PORT" not in environment


def test_two_values_of_one_variable_are_refused(tmp_path: Path, document: dict[str, Any]) -> None:
    document["Resources"]["Other"] = copy.deepcopy(document["Resources"]["Function"])
    document["Resources"]["Other"]["Properties"]["Environment"]["Variables"]["ORIGINS"] = "c"

    with pytest.raises(ValueError, match="ORIGINS"):
        resources.environment(_template(tmp_path, document), "http://127.0.0.1:1", RESOURCES, {})


def test_a_reference_to_what_is_not_local_is_named(tmp_path: Path, document: dict[str, Any]) -> None:
    document["Resources"]["Function"]["Properties"]["Environment"]["Variables"]["URL"] = {"Fn::GetAtt": ["Api", "Url"]}

    with pytest.raises(ValueError, match=r"URL refers to Api\.Url"):
        resources.environment(_template(tmp_path, document), "http://127.0.0.1:1", RESOURCES, {})


def test_a_changed_template_changes_the_tables_and_loses_nothing(tmp_path: Path, document: dict[str, Any]) -> None:
    state = tmp_path / "aws"
    before = prepare.make_resources(_template(tmp_path, document), state)
    table = before["Things"]["Ref"]
    with resources.run_ministack(state, "migrate") as endpoint:
        item = {"id": {"S": "1"}, "owner": {"S": "ann"}}
        resources.client("dynamodb", endpoint).put_item(TableName=table, Item=item)
        secret = _secret(endpoint, before["Signing"]["Ref"])

    document["Resources"]["Things"] = _table("id", "owner")
    document["Resources"]["More"] = _table("key")
    after = prepare.make_resources(_template(tmp_path, document), state)

    assert {name: after[name] for name in before} == before
    with resources.run_ministack(state, "migrate") as endpoint:
        dynamodb = resources.client("dynamodb", endpoint)
        found = dynamodb.query(
            TableName=table,
            IndexName="by_owner",
            KeyConditionExpression="#owner = :owner",
            ExpressionAttributeNames={"#owner": "owner"},
            ExpressionAttributeValues={":owner": {"S": "ann"}},
        )
        assert found["Items"] == [item]
        assert dynamodb.scan(TableName=after["More"]["Ref"])["Items"] == []
        assert _secret(endpoint, after["Signing"]["Ref"]) == secret


def _secret(endpoint: str, arn: str) -> str:
    value: str = resources.client("secretsmanager", endpoint).get_secret_value(SecretId=arn)["SecretString"]
    assert json.loads(value)["current"]
    return value


def test_a_changed_key_is_refused(tmp_path: Path, document: dict[str, Any]) -> None:
    state = tmp_path / "aws"
    prepare.make_resources(_template(tmp_path, document), state)
    document["Resources"]["Things"] = _table("key")

    with pytest.raises(SystemExit, match="the key of Things has changed"):
        prepare.make_resources(_template(tmp_path, document), state)


def test_what_was_written_survives_a_kill(tmp_path: Path, document: dict[str, Any]) -> None:
    state = tmp_path / "aws"
    table = prepare.make_resources(_template(tmp_path, document), state)["Things"]["Ref"]
    saved = state / "dynamodb.json"
    with listener(0) as sock:
        endpoint = f"http://127.0.0.1:{sock.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-m", "local.stack.ministack_server", str(sock.fileno()), str(state), "serve"],
            cwd=ROOT,
            env=own_environment(),
            pass_fds=(sock.fileno(),),
            stdout=subprocess.DEVNULL,
        )
        sock.listen()
        resources.client("dynamodb", endpoint).put_item(TableName=table, Item={"id": {"S": "kept"}})
    until(lambda: "kept" in saved.read_text(), "it is saved")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    with resources.run_ministack(state, "migrate") as endpoint:
        assert resources.client("dynamodb", endpoint).scan(TableName=table)["Count"] == 1
