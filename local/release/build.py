"""`make build`: functions and layers as they are deployed. It runs `sam build`, compiles bytecode, and prints sizes.

Lambda cannot write bytecode, so the build includes it, compiled by the runtime's own Python: Python 3.13 on the PATH, or the one
in Lambda's image. Python does not check this bytecode against its source, because a zip does not keep file times. So the build
never writes it beside sources that a developer edits.

With --sizes it shows the sizes of an earlier build. With --imports it measures how long importing each function takes.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from local.docs import assets
from local.release import docker, packages
from local.release.stages import OperationError, Stage
from local.stack import prices
from local.stack.template import ROOT, Template

BUILD = ROOT / ".aws-sam" / "build"
LIMIT = 60
"""The largest size of a function in MB, unpacked and with its layers."""
HIGHER_LIMITS = (
    ({"DashscopeLayer"}, 120),
    ({"DashscopeLayer", "ImagingLayer"}, 130),
    ({"DocumentsLayer"}, 75),
)
"""The same, by layers that need more. A function that reads documents also has the layers of images and of the tokenizer."""
COMPILE = """
import compileall, json, sys
from py_compile import PycInvalidationMode
for folder, place in json.loads(sys.argv[1]):
    compileall.compile_dir(
        folder, quiet=2, workers=0, stripdir=folder, prependdir=place,
        invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
    )
"""


class BuildError(Exception):
    """The build cannot be deployed. The message is for the console."""


@dataclass(frozen=True)
class Built:
    """One function as it was built."""

    name: str
    module: str
    folder: Path
    layers: tuple[Path, ...]

    @property
    def limit(self) -> int:
        """The largest permitted size in MB."""
        names = {layer.name for layer in self.layers}
        return max([LIMIT, *(limit for layers, limit in HIGHER_LIMITS if layers <= names)])

    @property
    def size(self) -> float:
        """The size in MB, unpacked and with its layers, without the web adapter's layer, which is AWS's own."""
        return sum(_bytes(folder) for folder in (self.folder, *self.layers)) / 1e6

    @property
    def path(self) -> list[str]:
        """The folders in which its Python looks for modules."""
        return [str(self.folder), *(str(layer / "python") for layer in self.layers)]


def deployed_architecture(stage: Stage | None = None) -> str | None:
    """Return the Architecture that samconfig.toml keeps from `make deploy` for this stage, or None."""
    return (stage or Stage.read()).overrides.get("Architecture")


def built(build: Path = BUILD) -> list[Built]:
    """Return all built functions."""
    path = build / "template.yaml"
    if not path.exists():
        raise BuildError("Nothing is built yet: make build")
    document = Template(path).document
    shared = document["Globals"]["Function"].get("Layers", [])
    functions = []
    for name, resource in document["Resources"].items():
        if resource["Type"] == "AWS::Serverless::Function":
            own = resource["Properties"]
            layers = [layer["Ref"] for layer in (*shared, *own.get("Layers", [])) if "Ref" in layer]
            module = own["Handler"].removesuffix(".handler").removesuffix(".sh").replace("/", ".")
            functions.append(Built(name, module, build / own["CodeUri"], tuple(build / layer for layer in layers)))
    return functions


def compile_all(functions: list[Built]) -> bool:
    """Write bytecode beside all built sources. Return False if no Python of the runtime's version is available."""
    layers = sorted({layer for function in functions for layer in function.layers})
    first, *others = functions
    folders = json.dumps([(str(first.folder), "/var/task"), *((str(layer), "/opt") for layer in layers)])
    python = _python()
    if python:
        subprocess.run([python, "-c", COMPILE, folders], check=True)
    elif docker.available():
        docker.python(COMPILE, BUILD, folders)
    else:
        return False
    for other in others:  # they all share one CodeUri
        for compiled in first.folder.rglob("__pycache__"):
            shutil.copytree(compiled, other.folder / compiled.relative_to(first.folder), dirs_exist_ok=True)
    return True


def pack_assets(functions: list[Built]) -> None:
    """Write packed assets beside the built handlers that serve them. No function needs the sources of the web client then."""
    for function in functions:
        if function.module in assets.MODULES:
            folder = function.folder / function.module.partition(".")[0]
            command = [sys.executable, "-m", "local.docs.assets", function.module, str(folder)]
            subprocess.run(command, cwd=ROOT, check=True)
        shutil.rmtree(function.folder / "web" / "site", ignore_errors=True)


def _python() -> str | None:
    """Return the runtime's Python from the PATH. A version manager's shim may have no such version behind it, so try to run it."""
    path = shutil.which("python3.13")
    if not path:
        return None
    answer = subprocess.run(
        [path, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or None


def check_sizes(functions: list[Built]) -> None:
    """Print the size of each function. Raise BuildError if one exceeds its limit."""
    sizes = {function.name: function.size for function in functions}
    for function in sorted(functions, key=lambda function: -sizes[function.name]):
        print(f"{sizes[function.name]:7.1f} MB of {function.limit:3}  {function.name}")
    if heavy := [function.name for function in functions if sizes[function.name] > function.limit]:
        raise BuildError(f"Over the budget for what a function may be, unpacked: {', '.join(heavy)}")
    print(f"{len(functions)} functions, all within the budget.")


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> int:
    """Build, or show the earlier build."""
    parser = argparse.ArgumentParser(prog="make build")
    parser.add_argument("--sizes", action="store_true", help="only show what was built before")
    parser.add_argument(
        "--imports", action="store_true", help="measure imports, and write them into docs/performance.md"
    )
    arguments = parser.parse_args()
    try:
        if not (arguments.sizes or arguments.imports):
            prices.check()
            architecture = os.environ.get("ARCHITECTURE") or deployed_architecture() or "x86_64"
            command = ["sam", "build", "--parameter-overrides", f"Architecture={architecture}"]
            environment = {**packages.environment(), "ARCHITECTURE": architecture}  # layers/Makefile reads ARCHITECTURE
            if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
                return 1
            pack_assets(built())
            if not compile_all(built()):
                print(
                    "No bytecode: neither Python 3.13 nor Docker is here. All works, and cold starts take twice as long.",
                    file=sys.stderr,
                )
        functions = built()
        check_sizes(functions)
        if arguments.imports:
            from local.release import imports  # it needs this module

            imports.write(imports.report(functions))
    except (BuildError, OperationError, prices.PriceTableError) as error:
        print(f"ERROR {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
