"""The stamp by which a changed parameter reaches the published versions, with a CloudFormation that has one stack."""

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.release import stamp
from local.stack.template import PATH

CONFIG = """[default.global.parameters]
stack_name = "aideer"
[default.deploy.parameters]
parameter_overrides = 'Throttles="all=5/60 redeem=20/3600" LeaseSeconds="45"'
"""
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
def config(tmp_path: Path) -> Path:
    path = tmp_path / "samconfig.toml"
    path.write_text(CONFIG)
    return path


def stamped(config: Path, cloudformation: CloudFormation, *more: str) -> str:
    """The stamp that is written for this deployment."""
    template = config.with_name("template.yaml")
    template.write_text(PATH.read_text(encoding="utf-8"), encoding="utf-8")
    stamp.write(cloudformation, "aideer", list(more), config, config.parent)
    text = template.read_text(encoding="utf-8")
    [line] = [line for line in text.splitlines() if "DEPLOYED_WITH" in line]
    assert text.replace(line, "") == PATH.read_text(encoding="utf-8").replace('        DEPLOYED_WITH: ""', "")
    return line.partition("'")[2].rstrip("'")


def test_a_changed_parameter_changes_it(config: Path) -> None:
    first = stamped(config, CloudFormation(DEPLOYED | {"LeaseSeconds": "30"}))
    config.write_text(CONFIG.replace('"45"', '"60"'))
    second = stamped(config, CloudFormation(DEPLOYED))
    assert len(first) == len(second) == 16
    assert first != second


@pytest.mark.parametrize("as_json", [False, True])
def test_where_no_parameter_changes_it_stays_and_so_does_every_function(config: Path, as_json: bool) -> None:
    variables = {"DEPLOYED_WITH": "0123456789abcdef"}
    body = variables if as_json else f"DEPLOYED_WITH: '{variables['DEPLOYED_WITH']}'"
    assert stamped(config, CloudFormation(DEPLOYED, body)) == "0123456789abcdef"
    assert stamped(config, CloudFormation(DEPLOYED, json.dumps(body))) == "0123456789abcdef"
    assert stamped(config, CloudFormation(DEPLOYED, "DEPLOYED_WITH: ''")) == "", "as after the first deployment"


def test_the_command_line_counts_in_the_files_place(config: Path) -> None:
    known = CloudFormation(DEPLOYED, "DEPLOYED_WITH: '0123456789abcdef'")
    same = [
        "--no-confirm-changeset",
        "--parameter-overrides",
        "LeaseSeconds=45",
        "KeepWarm=true",
        "--region",
        "us-east-1",
    ]
    assert stamped(config, known, *same) == "0123456789abcdef"
    assert stamped(config, known, "--parameter-overrides", "LeaseSeconds=46 KeepWarm=true") != "0123456789abcdef"


def test_a_stack_that_is_not_there_yet_gets_one(config: Path) -> None:
    assert len(stamped(config, CloudFormation(None))) == 16


def test_without_a_build_there_is_nothing_to_stamp(config: Path) -> None:
    stamp.write(CloudFormation(DEPLOYED), "aideer", [], config, config.parent)
    assert not config.with_name("template.yaml").exists()


@pytest.mark.parametrize(
    ("more", "value"), [(["--region", "a"], "a"), (["-x", "--region=b"], "b"), (["--regional", "c"], None), ([], None)]
)
def test_an_option_is_found_in_both_its_forms(more: list[str], value: str | None) -> None:
    assert stamp.option(more, "--region") == value
