"""The template's alarms and its dashboard, as CloudFormation makes them of it.

The embedded one does no metric math: such alarms are left out.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import botocore.session
import pytest

from local.stack.template import Template

SHOWN = ("AWS::CloudWatch::", "AWS::Logs::", "AWS::SQS::")
STACK = "aideer-stage"


def client(service: str) -> Any:
    return botocore.session.get_session().create_client(service)


@pytest.fixture
def deployed() -> Iterator[Callable[..., str]]:
    """Deploys what watches, beside the queues and with the names of the rest in its place; returns the stack's name."""
    document = Template().document
    kept = {
        name: resource
        for name, resource in document["Resources"].items()
        if resource["Type"].startswith(SHOWN) and "Metrics" not in resource["Properties"]
    }
    text = json.dumps(kept)
    referred = {name for name in document["Resources"] if f'"{name}"' in text or f"${{{name}}}" in text}
    names = {name: {"Type": "String", "Default": f"the-{name}"} for name in referred - kept.keys()}
    body = json.dumps(
        {
            "Parameters": {**document["Parameters"], **names},
            "Conditions": document["Conditions"],
            "Resources": kept,
        }
    )
    made: list[str] = []

    def deploy(**parameters: str) -> str:
        name, cloudformation = f"{STACK}-{uuid4().hex[:6]}", client("cloudformation")
        given = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
        cloudformation.create_stack(StackName=name, TemplateBody=body, Parameters=given)
        made.append(name)
        cloudformation.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 0.05})
        return name

    yield deploy
    for name in made:
        client("cloudformation").delete_stack(StackName=name)


def resources(stack: str, kind: str) -> dict[str, str]:
    summaries = client("cloudformation").list_stack_resources(StackName=stack)["StackResourceSummaries"]
    return {r["LogicalResourceId"]: r["PhysicalResourceId"] for r in summaries if r["ResourceType"] == kind}


def test_all_of_it(deployed: Callable[..., str]) -> None:
    stack = deployed(
        AlarmTopic="arn:aws:sns:us-east-1:000000000000:operators", ErrorsTolerated="5", LogRetentionDays="7"
    )
    assert len(resources(stack, "AWS::CloudWatch::Alarm")) == 11
    assert list(resources(stack, "AWS::CloudWatch::Dashboard")) == ["Overview"]
    assert list(resources(stack, "AWS::Logs::MetricFilter")) == ["ErrorsLogged"]
    assert len(resources(stack, "AWS::SQS::QueuePolicy")) == 3


def test_what_costs_can_be_done_without(deployed: Callable[..., str]) -> None:
    stack = deployed(Dashboard="false", DetailedAlarms="false", Metrics="false")
    assert resources(stack, "AWS::CloudWatch::Dashboard") == {}
    assert len(resources(stack, "AWS::CloudWatch::Alarm")) == 7
