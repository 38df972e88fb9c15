"""template.yaml: what a deployment would refuse or a reviewer would ask about, before there is one."""

import ast
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pynamodb.models import Model

from aideer import models
from local.template import ROOT, Template

TEMPLATE = Template()
RESOURCES: dict[str, Any] = TEMPLATE.document["Resources"]
GLOBALS: dict[str, Any] = TEMPLATE.document["Globals"]["Function"]
FUNCTIONS = {name: r["Properties"] for name, r in RESOURCES.items() if r["Type"] == "AWS::Serverless::Function"}
TABLES = {name: r["Properties"] for name, r in RESOURCES.items() if r["Type"] == "AWS::DynamoDB::Table"}
MODELS = {
    "UsersTable": models.User,
    "IdentitiesTable": models.Identity,
    "PresetsTable": models.Preset,
    "ChatsTable": models.Chat,
    "MessagesTable": models.Message,
    "TasksTable": models.Task,
    "TaskEventsTable": models.TaskEvent,
    "CreditsTable": models.CreditEntry,
    "CodesTable": models.Code,
    "RecordsTable": models.Record,
}

each_function = pytest.mark.parametrize("name", FUNCTIONS)
QUEUED = [
    (name, event.properties) for name, f in TEMPLATE.functions.items() for event in f.events if event.type == "SQS"
]


def handler_file(name: str) -> Path:
    """The file under functions/ that a function's Handler names."""
    handler: str = FUNCTIONS[name]["Handler"]
    path = handler if "/" in handler else handler.removesuffix(".handler").replace(".", "/") + ".py"
    return ROOT / "functions" / path


def statements(name: str) -> list[tuple[list[str], Any]]:
    """The (actions, resource) that a function's own policies allow."""
    found = [statement for policy in FUNCTIONS[name]["Policies"] for statement in policy["Statement"]]
    assert all(statement.keys() == {"Effect", "Action", "Resource"} for statement in found)
    return [([s["Action"]] if isinstance(s["Action"], str) else s["Action"], s["Resource"]) for s in found]


def users_of(resource: Any) -> set[str]:
    """The functions whose policies name the resource."""
    return {name for name in FUNCTIONS if any(allowed == resource for _, allowed in statements(name))}


def keys(schema: list[dict[str, str]]) -> dict[str, str]:
    """A KeySchema, whatever its order: HASH and RANGE with the attributes' names."""
    return {key["KeyType"]: key["AttributeName"] for key in schema}


def test_every_handler_file_is_one_function() -> None:
    named = Counter(handler_file(name).with_suffix(".py") for name in FUNCTIONS)
    files = {path for path in ROOT.glob("functions/*/*.py") if path.parent.name != "aideer"}
    stream = ROOT / "functions/tasks/stream.py"  # has two doors
    assert named == Counter(files) + Counter([stream])


@each_function
def test_handler_exists(name: str) -> None:
    path = handler_file(name)
    assert path.is_file()
    assert path.suffix == ".py" or (path.stat().st_mode & 0o111 == 0o111 and b"\r" not in path.read_bytes())


@each_function
def test_function_says_what_it_is_for(name: str) -> None:
    assert FUNCTIONS[name]["Description"]


@each_function
def test_policies_are_exact(name: str) -> None:
    for actions, resource in statements(name):
        [(kind, target)] = resource.items()
        if kind == "Fn::Sub":
            match = re.fullmatch(r"\$\{(\w+)\.Arn\}/index/(\*|\w+)", target)
            assert match
            logical_id, allowed = match[1], {"dynamodb:Query"}
            indexes = [index["IndexName"] for index in TABLES[logical_id]["GlobalSecondaryIndexes"]]
            assert match[2] in ["*", *indexes]
        else:
            logical_id = target[0] if kind == "Fn::GetAtt" else target
            allowed = {
                "AWS::DynamoDB::Table": {
                    *("dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query", "dynamodb:PutItem"),
                    *(
                        "dynamodb:UpdateItem",
                        "dynamodb:DeleteItem",
                        "dynamodb:BatchWriteItem",
                        "dynamodb:ConditionCheckItem",
                        "dynamodb:Scan",
                    ),
                },
                "AWS::SQS::Queue": {"sqs:SendMessage"},
                "AWS::SecretsManager::Secret": {"secretsmanager:GetSecretValue"},
            }[RESOURCES[logical_id]["Type"]]
            assert kind == ("Ref" if "secretsmanager:GetSecretValue" in allowed else "Fn::GetAtt")
        assert actions
        assert set(actions) <= allowed


@each_function
def test_no_resource_stands_twice_in_the_policies(name: str) -> None:
    resources = [resource for _, resource in statements(name)]
    assert all(resources.count(resource) == 1 for resource in resources)


def test_only_signing_in_and_up_touch_identities() -> None:
    assert users_of({"Fn::GetAtt": ["IdentitiesTable", "Arn"]}) == {
        "UsersCreateFunction",
        "SessionCreateFunction",
        "OperationsMakeAdminFunction",
    }


def test_only_what_no_request_waits_for_reads_whole_tables() -> None:
    scanning = {name for name in FUNCTIONS if any("dynamodb:Scan" in actions for actions, _ in statements(name))}
    assert scanning == {"ReconciliationRunFunction"}


def test_only_what_calls_a_provider_knows_its_keys() -> None:
    secret = {"Ref": "ProvidersSecret"}
    told = {name for name, f in TEMPLATE.functions.items() if f.variables["PROVIDERS_SECRET_ARN"] == secret}
    with_sdk = {name for name, f in FUNCTIONS.items() if {"Ref": "DashscopeLayer"} in f.get("Layers", [])}
    assert users_of(secret) == told == with_sdk == {"TasksStreamFunction", "TasksOnQueuedFunction"}


@each_function
def test_layers_of_globals_are_not_repeated(name: str) -> None:
    layers = GLOBALS["Layers"] + FUNCTIONS[name].get("Layers", [])
    assert all(layers.count(layer) == 1 for layer in layers)
    assert len(layers) <= 5


@pytest.mark.parametrize(("name", "event"), QUEUED)
def test_a_message_is_worked_alone_and_outlasts_its_function(name: str, event: dict[str, Any]) -> None:
    queue = RESOURCES[event["Queue"]["Fn::GetAtt"][0]]["Properties"]
    assert event["BatchSize"] == 1
    assert event["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert queue["VisibilityTimeout"] > TEMPLATE.functions[name].timeout
    assert queue["RedrivePolicy"]["maxReceiveCount"] == 5


def test_both_queues_are_consumed() -> None:
    assert sorted(event["Queue"]["Fn::GetAtt"][0] for _, event in QUEUED) == ["JobsQueue", "TasksQueue"]


def test_timeouts() -> None:
    """The engine's two functions outlast an answer; no endpoint outlasts API Gateway's 30 s."""
    answer = GLOBALS["Environment"]["Variables"]["TASK_SECONDS"]
    for name, function in TEMPLATE.functions.items():
        if {"Ref": "DashscopeLayer"} in FUNCTIONS[name].get("Layers", []):
            assert answer < function.timeout <= 900
        if any(event.type == "HttpApi" for event in function.events):
            assert function.timeout < 30


def test_the_environment_is_what_settings_reads() -> None:
    tree = ast.parse((ROOT / "functions/aideer/settings.py").read_text())
    read = {
        node.slice.value if isinstance(node, ast.Subscript) else node.args[0].value
        for node in ast.walk(tree)
        if (isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ")
        or (isinstance(node, ast.Call) and ast.unparse(node.func) == "os.environ.get")
    }
    declared = GLOBALS["Environment"]["Variables"]
    assert read == {name for name in declared if not name.startswith(("POWERTOOLS_", "AWS_"))}
    for function in FUNCTIONS.values():
        own = function.get("Environment", {}).get("Variables", {})
        assert all(name in declared or name.startswith("AWS_L") for name in own)


def test_alarms_listen_for_what_functions_say() -> None:
    alarms = [r["Properties"] for r in RESOURCES.values() if r["Type"] == "AWS::CloudWatch::Alarm"]
    said = "".join(path.read_text() for path in ROOT.glob("functions/**/*.py"))
    assert alarms
    for alarm in alarms:
        assert alarm["AlarmActions"] == {"Fn::If": ["TellOfAlarms", [{"Ref": "AlarmTopic"}], {"Ref": "AWS::NoValue"}]}
        if alarm["Namespace"] == GLOBALS["Environment"]["Variables"]["POWERTOOLS_METRICS_NAMESPACE"]:
            assert f'"{alarm["MetricName"]}"' in said


def test_every_table_has_a_model() -> None:
    assert TABLES.keys() == MODELS.keys()


@pytest.mark.parametrize(("table", "model"), MODELS.items())
def test_a_table_has_the_keys_and_indexes_of_its_model(table: str, model: type[Model]) -> None:
    properties, schema = TABLES[table], model._get_schema()
    assert keys(properties["KeySchema"]) == keys(schema["key_schema"])
    by_name = {d["AttributeName"]: d for d in properties["AttributeDefinitions"]}
    assert by_name == {d["AttributeName"]: d for d in schema["attribute_definitions"]}
    indexes = {index["IndexName"]: index for index in properties.get("GlobalSecondaryIndexes", [])}
    assert indexes.keys() == {index["index_name"] for index in schema["global_secondary_indexes"]}
    for expected in schema["global_secondary_indexes"]:
        index = indexes[expected["index_name"]]
        assert keys(index["KeySchema"]) == keys(expected["key_schema"])
        assert index["Projection"]["ProjectionType"] == expected["projection"]["ProjectionType"]
        attributes = expected["projection"].get("NonKeyAttributes", [])
        assert sorted(index["Projection"].get("NonKeyAttributes", [])) == sorted(attributes)


@pytest.mark.parametrize("table", TABLES)
def test_tables_cost_nothing_idle_and_can_be_restored(table: str) -> None:
    properties = TABLES[table]
    assert properties["BillingMode"] == "PAY_PER_REQUEST"
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert properties["DeletionProtectionEnabled"] == {"Ref": "DeletionProtection"}
    expires = {"AttributeName": "ttl", "Enabled": True} if "ttl" in MODELS[table].get_attributes() else None
    assert properties.get("TimeToLiveSpecification") == expires


def test_what_the_local_stack_creates_needs_nothing_else() -> None:
    created = TEMPLATE.data()
    references = set(re.findall(r"'(?:Ref|Fn::GetAtt)': \[?'(\w+)'", str(created["Resources"])))
    assert references <= created["Resources"].keys() | created["Parameters"].keys()
    assert all("Default" in parameter for parameter in created["Parameters"].values())


def test_layers_agree_on_versions() -> None:
    """A layer leaves out what the core layer has by comparing lines, so one package may have one pin only."""

    def pins(path: str) -> set[str]:
        return {line.partition(" ;")[0] for line in (ROOT / path).read_text().splitlines() if line[:1].isalnum()}

    for layer in ("core", "web", "dashscope"):
        assert pins(f"layers/{layer}/requirements.txt") <= pins("requirements-dev.txt")
