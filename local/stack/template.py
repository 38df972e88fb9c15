"""Reads template.yaml for the local stack: its functions, its data resources, and the values of its references."""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from local.stack.invocation import Context
from local.stack.state import ACCOUNT, REGION

ROOT = Path(__file__).resolve().parents[2]
PATH = ROOT / "template.yaml"
PSEUDO_PARAMETERS = {
    "AWS::Region": REGION,
    "AWS::AccountId": ACCOUNT,
    "AWS::Partition": "aws",
    "AWS::StackName": "local",
}
DATA_TYPES = {"AWS::DynamoDB::Table", "AWS::SQS::Queue", "AWS::SecretsManager::Secret", "AWS::S3::Bucket"}
RUNTIME_VARIABLES = ("AWS_LAMBDA_", "AWS_LWA_")
"""Prefixes of variables that configure Lambda's own runtime and its layers, which do not run here."""

Resources = Mapping[str, Mapping[str, str]]
"""Created resources: logical id -> {"Ref": …, "Arn": …}."""


class UnresolvedError(Exception):
    """A reference to a resource that the local stack does not create."""


class _Loader(yaml.CSafeLoader):
    """YAML with CloudFormation's short tags."""


def _short_tag(loader: yaml.CSafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)  # type: ignore[arg-type]
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _short_tag)


@dataclass(frozen=True)
class Event:
    """An event that invokes a function: its type and its properties from the template."""

    type: str
    properties: dict[str, Any]


@dataclass(frozen=True)
class Function:
    """One function resource, including the values inherited from Globals."""

    name: str
    handler: str
    timeout: float
    memory: int
    variables: dict[str, Any]
    events: tuple[Event, ...]

    @property
    def module(self) -> str:
        """The module of the handler: tasks.create for tasks.create.handler."""
        return self.handler.rpartition(".")[0]

    @property
    def runs_here(self) -> bool:
        """Whether the handler is a Python function, and not the script that starts the stream's ASGI server."""
        return "/" not in self.handler

    def context(self) -> Context:
        """Return the context of an invocation that starts now."""
        return Context(self.name, self.handler, self.timeout, self.memory)


class Template:
    """A SAM template."""

    def __init__(self, path: Path = PATH) -> None:
        self.path = path
        self.document: dict[str, Any] = yaml.load(path.read_bytes(), _Loader)  # noqa: S506 - a SafeLoader

    @functools.cached_property
    def functions(self) -> dict[str, Function]:
        """Every function by its logical id."""
        shared = self.document.get("Globals", {}).get("Function", {})
        functions = {}
        for name, resource in self.document["Resources"].items():
            if resource["Type"] != "AWS::Serverless::Function":
                continue
            own = resource["Properties"]
            functions[name] = Function(
                name=name,
                handler=own["Handler"],
                timeout=float(own.get("Timeout", shared.get("Timeout", 3))),
                memory=int(own.get("MemorySize", shared.get("MemorySize", 128))),
                variables={
                    **shared.get("Environment", {}).get("Variables", {}),
                    **own.get("Environment", {}).get("Variables", {}),
                },
                events=tuple(Event(event["Type"], event["Properties"]) for event in own.get("Events", {}).values()),
            )
        return functions

    @property
    def urls(self) -> list[dict[str, Any]]:
        """The properties of every Lambda URL."""
        resources = self.document["Resources"].values()
        return [resource["Properties"] for resource in resources if resource["Type"] == "AWS::Lambda::Url"]

    def data(self) -> dict[str, Any]:
        """Return a template with only the data resources."""
        kept = {key: value for key, value in self.document.items() if key in ("Parameters", "Mappings", "Conditions")}
        resources = self.document["Resources"].items()
        return {**kept, "Resources": {name: value for name, value in resources if value["Type"] in DATA_TYPES}}

    def environment(self, resources: Resources, overrides: Mapping[str, str]) -> dict[str, str]:
        """Return one environment for all functions, because one local process serves many of them.

        Any other value replaces an empty one: the template leaves a variable empty in functions that must not know it.

        Raises
        ------
        ValueError
            Two functions give one variable two values, or a value refers to something that neither resources nor overrides have.
        """
        result = dict(overrides)
        for function in self.functions.values():
            for name, value in function.variables.items():
                if name in overrides or name.startswith(RUNTIME_VARIABLES):
                    continue
                try:
                    text = _text(self.resolve(value, resources))
                except UnresolvedError as error:
                    message = f"{function.name}: {name} refers to {error}, which does not exist locally"
                    raise ValueError(message) from None
                if text and result.get(name, "") not in ("", text):
                    raise ValueError(f"{name} has two values: one local process cannot serve both of its functions")
                result[name] = text or result.get(name, "")
        return result

    def resolve(self, value: Any, resources: Resources) -> Any:
        """Return a value of the template with its references and functions resolved.

        Raises
        ------
        UnresolvedError
            The value refers to something that the resources do not have.
        """
        if isinstance(value, list):
            return [self.resolve(item, resources) for item in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            name, argument = next(iter(value.items()))
            if name == "Ref":
                return self._ref(argument, resources)
            if name == "Fn::GetAtt":
                return _attribute(resources, argument[0], argument[1])
            if name == "Fn::Sub":
                return self._sub(argument, resources)
            if name == "Fn::If":
                return self.resolve(argument[1] if self._condition(argument[0], resources) else argument[2], resources)
            if name == "Fn::FindInMap":
                return self._find(*self.resolve(argument, resources))
            if name == "Fn::Join":
                return argument[0].join(_text(part) for part in self.resolve(argument[1], resources))
            if name.startswith("Fn::"):
                raise UnresolvedError(name)
        return {key: self.resolve(item, resources) for key, item in value.items()}

    def _find(self, mapping: str, first: str, second: str) -> Any:
        return self.document["Mappings"][mapping][first][second]

    def _ref(self, name: str, resources: Resources) -> Any:
        if name in PSEUDO_PARAMETERS:
            return PSEUDO_PARAMETERS[name]
        parameter = self.document.get("Parameters", {}).get(name)
        if parameter is None:
            return _attribute(resources, name, "Ref")
        if "Default" not in parameter:
            raise UnresolvedError(name)
        if parameter["Type"] == "CommaDelimitedList":
            return [part.strip() for part in str(parameter["Default"]).split(",")]
        return parameter["Default"]

    def _sub(self, argument: Any, resources: Resources) -> str:
        text, names = argument if isinstance(argument, list) else (argument, {})

        def substitute(match: re.Match[str]) -> str:
            name = match[1]
            if name in names:
                return _text(self.resolve(names[name], resources))
            logical_id, dot, attribute = name.partition(".")
            return _text(_attribute(resources, logical_id, attribute) if dot else self._ref(name, resources))

        return re.sub(r"\$\{([^!}][^}]*)\}", substitute, text)

    def _condition(self, condition: Any, resources: Resources) -> bool:
        if isinstance(condition, str):
            return self._condition(self.document["Conditions"][condition], resources)
        name, argument = next(iter(condition.items()))
        if name == "Condition":
            return self._condition(argument, resources)
        if name == "Fn::Equals":
            left, right = self.resolve(argument, resources)
            return _text(left) == _text(right)
        if name == "Fn::Not":
            return not self._condition(argument[0], resources)
        combine: Callable[..., bool] = {"Fn::And": all, "Fn::Or": any}[name]
        return combine(self._condition(part, resources) for part in argument)


def _attribute(resources: Resources, logical_id: str, attribute: str) -> str:
    try:
        return resources[logical_id][attribute]
    except KeyError:
        raise UnresolvedError(logical_id if attribute == "Ref" else f"{logical_id}.{attribute}") from None


def _text(value: Any) -> str:
    """Return a value as CloudFormation writes it into an environment."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(_text(item) for item in value)
    return str(value)
