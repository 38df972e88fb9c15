"""ministack as a process of its own, with what differs from AWS repaired.

There, !Ref of a secret is its ARN, not its name; a parameter that is a number is one where a queue's consumer is capped, and one
that is true or false is so where a table is protected; and who changes how a function is configured gets new processes of it.
A log group without a name gets one that begins with the stack's, as on AWS. Alarms know metric math: such ones are left out. So are
the policies that refuse what comes without TLS, which is not spoken here.
"""

from typing import Any

from ministack import app
from ministack.services import lambda_svc
from ministack.services.cloudformation import provisioners

SECRETS = provisioners._RESOURCE_HANDLERS["AWS::SecretsManager::Secret"]
CONSUMERS = provisioners._RESOURCE_HANDLERS["AWS::Lambda::EventSourceMapping"]
TABLES = provisioners._RESOURCE_HANDLERS["AWS::DynamoDB::Table"]
_consume = CONSUMERS["create"]
_create_table, _update_table = TABLES["create"], TABLES["update"]
LOG_GROUPS = provisioners._RESOURCE_HANDLERS["AWS::Logs::LogGroup"]
_name_logs = LOG_GROUPS["create"]
ALARMS = provisioners._RESOURCE_HANDLERS["AWS::CloudWatch::Alarm"]
_watch = ALARMS["create"]
_key = lambda_svc._warm_pool_key
_create, _update, _delete = (SECRETS[name] for name in ("create", "update", "delete"))


def key(function: str, configuration: dict[str, Any]) -> str:
    return f"{_key(function, configuration)}:{configuration.get('RevisionId')}"


def consume(logical_id: str, properties: dict[str, Any], *arguments: Any) -> Any:
    if cap := properties.get("ScalingConfig"):
        cap["MaximumConcurrency"] = int(cap["MaximumConcurrency"])
    return _consume(logical_id, properties, *arguments)


def create_table(logical_id: str, properties: dict[str, Any], *arguments: Any, **named: Any) -> Any:
    return _create_table(logical_id, protected(properties), *arguments, **named)


def update_table(name: str, old: dict[str, Any], new: dict[str, Any], *arguments: Any, **named: Any) -> Any:
    return _update_table(name, protected(old), protected(new), *arguments, **named)


def protected(properties: dict[str, Any]) -> dict[str, Any]:
    return {**properties, "DeletionProtectionEnabled": str(properties["DeletionProtectionEnabled"]).lower() == "true"}


def name_logs(logical_id: str, properties: dict[str, Any], stack: str, *arguments: Any) -> Any:
    named = {"LogGroupName": f"{stack}-{logical_id}-1", **properties}
    return _name_logs(logical_id, named, stack, *arguments)


def watch(logical_id: str, properties: dict[str, Any], *arguments: Any) -> Any:
    if "Metrics" in properties:
        return leave_out(logical_id)
    return _watch(logical_id, properties, *arguments)


def leave_out(logical_id: str, *_: Any) -> tuple[str, dict[str, str]]:
    return logical_id, {}


def create(*arguments: Any) -> tuple[str, dict[str, str]]:
    _, attributes = _create(*arguments)
    return attributes["Arn"], attributes


def update(arn: str, *arguments: Any, **named: Any) -> tuple[str, dict[str, str]]:
    _, attributes = _update(name_of(arn), *arguments, **named)
    return attributes["Arn"], attributes


def delete(arn: str, *arguments: Any) -> None:
    _delete(name_of(arn), *arguments)


def name_of(arn: str) -> str:
    """An ARN ends in the name, a hyphen and six characters."""
    return arn.rpartition(":")[2].rpartition("-")[0]


if __name__ == "__main__":
    CONSUMERS["create"], ALARMS["create"] = consume, watch
    TABLES.update(create=create_table, update=update_table)
    LOG_GROUPS["create"] = name_logs
    lambda_svc._warm_pool_key = key
    for kind in ("AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy"):
        provisioners._RESOURCE_HANDLERS[kind]["create"] = leave_out
    SECRETS.update(create=create, update=update, delete=delete)
    app.main()
