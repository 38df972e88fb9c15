"""The stamp by which a changed parameter reaches the published versions, with a CloudFormation that has one stack."""

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.release import stamp
from local.stack.template import PATH

DEPLOYED = {"Throttles": "all=5/60 redeem=20/3600", "LeaseSeconds": "45", "KeepWarm": "true"}


class CloudFormation:
    def __init__(self, parameters: dict[str, str] | None, body: Any = "") -> None:
        self._parameters, self._body = parameters, body

    def describe_stacks(self, StackName: str) -> dict[str, Any]:
        if self._parameters is None:
            raise ClientError({"Error": {"Code": "ValidationError", "Message": "does not exist"}}, "DescribeStacks")
        pairs = self._parameters.items()
        return {"Stacks": [{"Parameters": [{"ParameterKey": k, "ParameterValue": v} for k, v in pairs]}]}

    def get_template(self, StackName: str, TemplateStage: str) -> dict[str, Any]:
        assert TemplateStage == "Original", "the processed one has the functions, and no Globals"
        return {"TemplateBody": self._body}


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """A folder with a built template."""
    (tmp_path / "template.yaml").write_text(PATH.read_text(encoding="utf-8"), encoding="utf-8")
    return tmp_path


def read_stamp(build: Path) -> str:
    """The stamp in a built template, which is else as it was."""
    text = (build / "template.yaml").read_text(encoding="utf-8")
    [line] = [line for line in text.splitlines() if "DEPLOYED_WITH" in line]
    assert text.replace(line, "") == PATH.read_text(encoding="utf-8").replace('        DEPLOYED_WITH: ""', "")
    return line.partition("'")[2].rstrip("'")


def stamped(build: Path, cloudformation: CloudFormation, **overrides: str) -> str:
    """The stamp of a deployment with these parameters."""
    stamp.write(cloudformation, "aideer", overrides, build)
    return read_stamp(build)


def test_a_changed_parameter_changes_it(build: Path) -> None:
    first = stamped(build, CloudFormation(DEPLOYED), LeaseSeconds="60")
    second = stamped(build, CloudFormation(DEPLOYED), LeaseSeconds="30")
    assert len(first) == len(second) == 16
    assert first != second


def test_a_change_after_a_rollback_differs_from_the_stamp_of_the_earlier_release(build: Path) -> None:
    earlier = stamped(build, CloudFormation(DEPLOYED), LeaseSeconds="60")
    rolled_back = CloudFormation(DEPLOYED, f"DEPLOYED_WITH: '{earlier}'")  # its template, with today's parameters
    assert stamped(build, rolled_back, LeaseSeconds="60") != earlier


@pytest.mark.parametrize("as_json", [False, True])
def test_where_no_parameter_changes_it_stays_and_so_does_every_function(build: Path, as_json: bool) -> None:
    variables = {"DEPLOYED_WITH": "0123456789abcdef"}
    body = variables if as_json else f"DEPLOYED_WITH: '{variables['DEPLOYED_WITH']}'"
    for known in (body, json.dumps(body)):
        assert stamped(build, CloudFormation(DEPLOYED, known), LeaseSeconds="45") == "0123456789abcdef"
    assert stamped(build, CloudFormation(DEPLOYED, "DEPLOYED_WITH: ''")) == "", "as after the first deployment"


def test_a_stack_that_is_not_there_yet_gets_one(build: Path) -> None:
    assert len(stamped(build, CloudFormation(None), LeaseSeconds="45")) == 16


def test_where_the_sam_cli_asks_for_the_parameters_it_is_a_new_one(build: Path) -> None:
    stamps = []
    for _ in range(2):
        stamp.write_new(build)
        stamps.append(read_stamp(build))
    assert all(len(each) == 16 for each in stamps)
    assert stamps[0] != stamps[1]


def test_without_a_build_there_is_nothing_to_stamp(tmp_path: Path) -> None:
    stamp.write(CloudFormation(DEPLOYED), "aideer", {}, tmp_path)
    stamp.write_new(tmp_path)
    assert list(tmp_path.iterdir()) == []
