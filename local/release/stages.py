"""The stages of a deployment, as samconfig.toml has them: production, which is [default] there, and others beside it.

Each stage is a stack of its own, with its own tables, secrets and queues. Two stages never share a stack. Every command takes the
stage from the variable STAGE, which make passes on.
"""

import itertools
import os
import shlex
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit

CONFIG = Path("samconfig.toml")
"""Relative to the folder in which make runs, as for the SAM CLI."""
PRODUCTION = "production"
DEFAULT = "default"
"""The name of production in samconfig.toml."""


class OperationError(Exception):
    """The operation cannot be done. The message is for the console."""


@dataclass(frozen=True)
class Stage:
    """One stage: its name, its section of samconfig.toml, and the parameters of `sam deploy` there."""

    name: str
    environment: str
    parameters: dict[str, Any]
    config: Path

    @classmethod
    def read(cls, name: str | None = None, config: Path = CONFIG) -> "Stage":
        """Return the stage of this name, by default of the variable STAGE.

        Raises
        ------
        OperationError
            There is no such stage, or two stages name one stack.
        """
        name = name or os.environ.get("STAGE") or PRODUCTION
        environment = DEFAULT if name == PRODUCTION else name
        stages = _stages(config)
        if environment not in stages:
            known = ", ".join(PRODUCTION if each == DEFAULT else each for each in stages)
            raise OperationError(
                f"samconfig.toml has no stage {name}. It has {known}. "
                f"To add one, copy the sections [staging.…] there, and choose another stack_name and s3_prefix."
            )
        stage = cls(name, environment, stages[environment], config)
        for other, parameters in stages.items():
            if other != environment and parameters.get("stack_name") == stage.stack:
                shown = PRODUCTION if other == DEFAULT else other
                raise OperationError(
                    f"samconfig.toml names the stack {stage.stack} in two stages, {name} and {shown}. "
                    "Give each stage a stack of its own."
                )
        return stage

    @property
    def stack(self) -> str:
        """The name of the stage's stack."""
        return str(self.parameters["stack_name"])

    @property
    def region(self) -> str | None:
        """The region that samconfig.toml keeps, or None before the first deployment."""
        return self.parameters.get("region")

    @property
    def is_production(self) -> bool:
        """Whether this is the stage [default]."""
        return self.environment == DEFAULT

    @property
    def overrides(self) -> dict[str, str]:
        """The template's parameters that samconfig.toml keeps: name -> value."""
        return pairs(self.parameters.get("parameter_overrides", ""))

    def stacks_of_others(self) -> dict[str, str]:
        """Return the stacks of the other stages: stack's name -> stage's name."""
        return {
            str(parameters["stack_name"]): PRODUCTION if environment == DEFAULT else environment
            for environment, parameters in _stages(self.config).items()
            if environment != self.environment
        }

    def own(self, stack: str) -> str:
        """Return this stack's name. Raise OperationError if it is the stack of another stage."""
        if other := self.stacks_of_others().get(stack):
            raise OperationError(
                f"The stack {stack} belongs to the stage {other}. Say STAGE={other}, and no name of a stack."
            )
        return stack

    def release_prefix(self, stack: str) -> str:
        """Return the place of a stack's releases in the SAM CLI's bucket. A stack beside the stage's own has a place of its own."""
        return str(self.parameters.get("s3_prefix") or stack) if stack == self.stack else stack

    def require_own_prefix(self) -> None:
        """Raise OperationError if another stage uploads its releases to the same place. A rollback could not tell them apart."""
        prefix = self.parameters.get("s3_prefix")
        for environment, parameters in _stages(self.config).items():
            if environment != self.environment and prefix and parameters.get("s3_prefix") == prefix:
                other = PRODUCTION if environment == DEFAULT else environment
                raise OperationError(
                    f"samconfig.toml has the s3_prefix {prefix} in two stages, {self.name} and {other}. "
                    "Their releases would be mixed up, and make rollback could deploy one of the other stage. "
                    "Give the newer stage an s3_prefix of its own."
                )

    def keep(self, region: str, overrides: dict[str, str]) -> None:
        """Write the region and the parameters into the stage's section of samconfig.toml."""
        document = tomlkit.parse(self.config.read_text(encoding="utf-8"))
        section: Any = document[self.environment]
        section["deploy"]["parameters"]["region"] = region
        section["deploy"]["parameters"]["parameter_overrides"] = joined(overrides)
        self.config.write_text(tomlkit.dumps(document), encoding="utf-8")


def pairs(overrides: str | Iterable[str]) -> dict[str, str]:
    """Return the parameters of a text `A=1 B="two words"`, or of a list of such pairs."""
    said = shlex.split(overrides) if isinstance(overrides, str) else overrides
    return dict(each.partition("=")[::2] for each in said)


def joined(overrides: dict[str, str]) -> str:
    """Return the parameters as the text that samconfig.toml keeps, each value between quotes."""
    return " ".join('{}="{}"'.format(name, value.replace('"', '\\"')) for name, value in overrides.items())


def option(name: str, arguments: list[str]) -> str | None:
    """Return the value of --name on a command line of the SAM CLI, or None."""
    for argument, after in itertools.pairwise([*arguments, ""]):
        said, equals, value = argument.partition("=")
        if said == f"--{name}":
            return value if equals else after
    return None


def taken_overrides(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    """Take --parameter-overrides out of a command line. Return its parameters and the other arguments."""
    found: dict[str, str] = {}
    rest: list[str] = []
    reading = False
    for argument in arguments:
        said, equals, value = argument.partition("=")
        if said == "--parameter-overrides":
            reading = not equals
            found |= pairs(value) if equals else {}
        elif reading and not argument.startswith("-"):
            found |= pairs(argument)
        else:
            reading = False
            rest.append(argument)
    return found, rest


def _stages(config: Path) -> dict[str, dict[str, Any]]:
    try:
        document = tomllib.loads(config.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise OperationError(f"There is no {config} here. Run make in the project's folder.") from None
    except tomllib.TOMLDecodeError as error:
        raise OperationError(f"{config} cannot be read: {error}.") from None
    found = {}
    for environment, commands in document.items():
        if isinstance(commands, dict):
            parts = [commands.get(part, {}).get("parameters", {}) for part in ("global", "deploy")]
            if "stack_name" in (merged := parts[0] | parts[1]):
                found[environment] = merged
    return found
