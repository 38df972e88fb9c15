"""Starting cold is cheap by construction: what each handler's import may load, held to exactly that.

Each handler is imported by an interpreter of its own. What is not named here is light, or every function needs it.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

FUNCTIONS = Path(__file__).parents[2] / "functions"
HANDLERS = sorted(
    f"{path.parent.name}.{path.stem}" for path in FUNCTIONS.glob("*/*.py") if path.parent.name != "aideer"
)
HEAVY = {
    *("argon2", "PIL", "jwt", "precis_i18n", "pydantic", "pynamodb"),
    *("boto3", "s3transfer", "samcli", "numpy"),
    *(
        "aiohttp",
        "dashscope",
        "fastapi",
        "httpx",
        "mangum",
        "python_multipart",
        "requests",
        "rich",
        "starlette",
        "uvicorn",
        "yaml",
    ),
}
PLAIN = {"pydantic"}
"""Answers from what it ships with: no table, no token."""
TABLES = {"pydantic", "pynamodb"}
SIGNED_IN = {"jwt", "pydantic", "pynamodb"}
ALLOWED = {
    "docs.openapi": PLAIN,
    "docs.page": PLAIN,
    "health.get": PLAIN,
    "prices.list": PLAIN,
    "jobs.run": {"pynamodb"},
    "reconciliation.run": {"pynamodb"},
    "tasks.sweep": {"pynamodb"},
    # What the SDK brings is its own choice; the engine calls it for every message.
    "tasks.on_queued": TABLES | {"aiohttp", "dashscope", "httpx", "requests", "rich", "yaml"},
    # starlette imports python_multipart where it is installed, as here: on AWS only the layer of uploads has it.
    "tasks.stream": SIGNED_IN | {"python_multipart", "starlette"},
}

LOADED = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
print(json.dumps([sorted({name.partition(".")[0] for name in sys.modules}), sorted(sys.modules)]))
"""


def loaded(handler: str) -> tuple[set[str], set[str]]:
    environment = {**os.environ, "PYTHONPATH": str(FUNCTIONS)}
    command = [sys.executable, "-c", LOADED, handler]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    packages, modules = json.loads(answer.stdout)
    return set(packages), set(modules)


@pytest.fixture(scope="module")
def imports() -> dict[str, tuple[set[str], set[str]]]:
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(HANDLERS, pool.map(loaded, HANDLERS), strict=True))


@pytest.mark.parametrize("handler", HANDLERS)
def test_a_handler_loads_what_it_needs_and_no_more(handler: str, imports: dict[str, tuple[set[str], set[str]]]) -> None:
    packages, _ = imports[handler]
    assert packages & HEAVY == ALLOWED.get(handler, SIGNED_IN)


@pytest.mark.parametrize("handler", HANDLERS)
def test_no_handler_loads_another(handler: str, imports: dict[str, tuple[set[str], set[str]]]) -> None:
    _, modules = imports[handler]
    assert modules & set(HANDLERS) == {handler}
    assert "aideer.security.usernames" not in modules, "its tables are for the moment in which a name is set"
    if handler != "docs.page":  # whose whole answer it is
        assert "aws_lambda_powertools.event_handler.openapi.swagger_ui" not in modules
