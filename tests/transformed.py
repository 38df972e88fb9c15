"""template.yaml as CloudFormation has it in one place: transformed by SAM, with its conditions, references and functions resolved.

What is not there where it is named is an error, as for CloudFormation: a condition, a resource that its condition leaves out, a
parameter, a mapping's entry.
"""

import functools
import json
import re
from collections.abc import Mapping
from typing import Any

import boto3
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

from local.stack.template import PATH

ACCOUNT = "123456789012"
SUFFIXES = {"aws": "amazonaws.com", "aws-cn": "amazonaws.com.cn"}
_NOTHING = object()


class DanglingError(Exception):
    """The template names something that is not there."""


@functools.cache
def transform(region: str, changes: tuple[tuple[str, str], ...] = ()) -> dict[str, Any]:
    """The template after SAM's transformation. `changes` replace its texts, so that a test can ask what a change does."""
    text = PATH.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    document = yaml_parse(text)
    document["Globals"]["Function"]["CodeUri"] = "s3://bucket/code"  # as after `sam package`
    for resource in document["Resources"].values():
        if resource["Type"] == "AWS::Serverless::LayerVersion":
            resource["Properties"]["ContentUri"] = "s3://bucket/layer"
    session = boto3.Session(region_name=region)
    translated: dict[str, Any] = Translator({}, Parser(), None, session).translate(document, {})
    return json.loads(json.dumps(translated))  # type: ignore[no-any-return]


class Stack:
    """The stack of these parameters in this region."""

    def __init__(self, region: str = "us-east-1", **parameters: str) -> None:
        self._template = transform(region)
        unknown = parameters.keys() - self._template["Parameters"].keys()
        assert not unknown, f"no parameters of the template: {unknown}"
        self._values: dict[str, Any] = {
            "AWS::Region": region,
            "AWS::Partition": "aws-cn" if region.startswith("cn-") else "aws",
            "AWS::AccountId": ACCOUNT,
            "AWS::StackName": "aideer",
            "AWS::StackId": "arn:stack",
        }
        self._values["AWS::URLSuffix"] = SUFFIXES[self._values["AWS::Partition"]]
        for name, parameter in self._template["Parameters"].items():
            value = parameters.get(name, parameter["Default"])
            self._values[name] = str(value).split(",") if parameter["Type"] == "CommaDelimitedList" else value
        self._there = {
            name
            for name, resource in self._template["Resources"].items()
            if "Condition" not in resource or self._condition(resource["Condition"])
        }
        self.resources: dict[str, Any] = {
            name: self._resolve(self._template["Resources"][name]) for name in sorted(self._there)
        }
        """What is there, by logical id, resolved."""
        self.outputs: dict[str, Any] = {
            name: self._resolve(output)
            for name, output in self._template["Outputs"].items()
            if "Condition" not in output or self._condition(output["Condition"])
        }
        for name, resource in self.resources.items():
            depended = resource.get("DependsOn", [])
            for other in [depended] if isinstance(depended, str) else depended:
                if other not in self._there:
                    raise DanglingError(f"{name} depends on {other}")

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """The properties of the resources of a type."""
        return {name: r.get("Properties", {}) for name, r in self.resources.items() if r["Type"] == kind}

    def variables(self, function: str) -> dict[str, str]:
        """A function's environment."""
        found: dict[str, str] = self.resources[function]["Properties"]["Environment"]["Variables"]
        return found

    def _condition(self, condition: Any) -> bool:
        if isinstance(condition, str):
            if condition not in self._template["Conditions"]:
                raise DanglingError(f"condition {condition}")
            return self._condition(self._template["Conditions"][condition])
        [(name, argument)] = condition.items()
        if name == "Condition":
            return self._condition(argument)
        if name == "Fn::Equals":
            left, right = self._resolve(argument)
            return str(left) == str(right)
        if name == "Fn::Not":
            return not self._condition(argument[0])
        return {"Fn::And": all, "Fn::Or": any}[name](self._condition(part) for part in argument)

    def _resolve(self, value: Any) -> Any:
        if isinstance(value, list):
            return [item for item in map(self._resolve, value) if item is not _NOTHING]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            [(name, argument)] = value.items()
            if name == "Ref":
                return self._ref(argument)
            if name.startswith("Fn::"):
                return self._call(name, argument)
        resolved = {
            key: self._resolve(item) if key != "Condition" or isinstance(item, dict) else item
            for key, item in value.items()
        }
        return {key: item for key, item in resolved.items() if item is not _NOTHING}

    def _call(self, name: str, argument: Any) -> Any:
        if name == "Fn::If":
            return self._resolve(argument[1] if self._condition(argument[0]) else argument[2])
        if name == "Fn::GetAtt":
            logical_id, attribute = argument.split(".", 1) if isinstance(argument, str) else argument
            return self._attribute(logical_id, self._resolve(attribute))
        if name == "Fn::Sub":
            text, names = argument if isinstance(argument, list) else (argument, {})
            return self._sub(text, self._resolve(names))
        if name == "Fn::Join":
            return argument[0].join(map(str, self._resolve(argument[1])))
        if name == "Fn::Select":
            return self._resolve(argument[1])[int(argument[0])]
        if name == "Fn::Split":
            return self._resolve(argument[1]).split(argument[0])
        if name == "Fn::FindInMap":
            mapping, first, second = self._resolve(argument)
            try:
                return self._template["Mappings"][mapping][first][second]
            except KeyError:
                raise DanglingError(f"mapping {mapping} {first} {second}") from None
        raise AssertionError(name)

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NOTHING
        if name in self._values:
            return self._values[name]
        self._require(name)
        return f"{name}-id"

    def _sub(self, text: str, names: Mapping[str, Any]) -> str:
        def substitute(match: re.Match[str]) -> str:
            name = match[1]
            if name in names:
                return str(names[name])
            logical_id, dot, attribute = name.partition(".")
            return str(self._attribute(logical_id, attribute) if dot else self._ref(name))

        return re.sub(r"\$\{([^!}][^}]*)\}", substitute, text)

    def _attribute(self, logical_id: str, attribute: str) -> str:
        self._require(logical_id)
        if attribute == "FunctionUrl":
            return f"https://{logical_id.lower()}.lambda-url.on.test/"
        return f"{logical_id}.{attribute}"

    def _require(self, logical_id: str) -> None:
        if logical_id not in self._there:
            raise DanglingError(logical_id)
