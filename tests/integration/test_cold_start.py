"""Starting cold is cheap by construction: what each handler's import may load, held to exactly that.

Each handler is imported by a process of its own. What is not named here is light, or every function needs it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.stack.template import Template

pytestmark = pytest.mark.early

TEMPLATE = Template()
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
LATER = {"JobsRunFunction"}
"""May read the signing keys, and does so for few of its jobs: to count titles against the user's limits."""
READS_KEYS = "aideer.security.auth"
"""The module that reads the signing keys at the start of a process in Lambda."""
PLAIN = {"pydantic"}
"""Answers from what it ships with: no table, no token."""
SIGNED_IN = {"jwt", "pydantic", "pynamodb"}
ALLOWED = {
    "docs.openapi": PLAIN,
    "docs.page": PLAIN,
    "health.get": PLAIN,
    "web.file": set(),  # it does not use the resolver
    "prices.list": PLAIN,
    "users.avatar_public": {"pydantic", "pynamodb"},  # anybody may have a picture whose name they know
    "jobs.run": {"pynamodb"},
    "reconciliation.run": {"pynamodb"},
    "tasks.sweep": {"pynamodb"},
    # Not the SDK: most messages are about tasks that a stream has claimed.
    "tasks.on_queued": {"pynamodb"},
    "operations.keep_warm": {"pynamodb"},
    # starlette imports python_multipart where it is installed, as here: on AWS only the layer of uploads has it.
    "tasks.stream": SIGNED_IN | {"python_multipart", "starlette"},
    # It opens connections to the provider ahead. The SDK comes with the start of its server.
    "v1.serve": SIGNED_IN | {"aiohttp", "python_multipart", "starlette"},
}

LIGHT = ("botocore.client", "botocore.session", "aws_lambda_powertools.event_handler")
"""What most handlers load, and no test asks about. It is loaded once, and each handler then in a fork of that process."""
PROGRAM = """
import importlib, json, multiprocessing, sys

def loaded(handler):
    importlib.import_module(handler)
    return sorted(sys.modules)

for name in sys.argv[1].split():
    importlib.import_module(name)
before = sorted(sys.modules)
with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
    print(json.dumps([before, *pool.imap(loaded, sys.argv[2:], chunksize=1)]))
"""


def packages(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


@pytest.fixture(scope="module")
def imports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The modules that are there when a handler has been imported, by handler."""
    environment = {**os.environ, "PYTHONPATH": str(FUNCTIONS), "PYTHONPYCACHEPREFIX": str(tmp_path_factory.mktemp("c"))}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # each handler would compile all that it shares with the others
    command = [sys.executable, "-c", PROGRAM, " ".join(LIGHT), *HANDLERS]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    before, *modules = map(set, json.loads(answer.stdout))
    assert not packages(before) & (HEAVY | packages(set(HANDLERS)) | {"aideer"}), "these are asked about below"
    return dict(zip(HANDLERS, modules, strict=True))


@pytest.mark.parametrize("handler", HANDLERS)
def test_a_handler_loads_what_it_needs_and_no_more(handler: str, imports: dict[str, set[str]]) -> None:
    assert packages(imports[handler]) & HEAVY == ALLOWED.get(handler, SIGNED_IN)


@pytest.mark.parametrize("handler", HANDLERS)
def test_no_handler_loads_another(handler: str, imports: dict[str, set[str]]) -> None:
    modules = imports[handler]
    assert modules & set(HANDLERS) == {handler}
    assert "aideer.security.usernames" not in modules, "its tables are for the moment in which a name is set"
    assert not {"aideer.core.chinese", "aideer.core.languages"} & modules, (
        "they are for readers that ask for a language"
    )
    if handler != "docs.page":  # whose whole answer it is
        assert "aws_lambda_powertools.event_handler.openapi.swagger_ui" not in modules


@pytest.mark.parametrize("name", [name for name, function in TEMPLATE.functions.items() if function.runs_here])
def test_only_functions_that_may_read_the_signing_keys_do_so_at_their_start(
    name: str, imports: dict[str, set[str]]
) -> None:
    """The others would log a refusal at each cold start."""
    function = TEMPLATE.functions[name]
    modules = imports[function.module]
    policies = json.dumps(TEMPLATE.document["Resources"][name]["Properties"]["Policies"])
    reads = READS_KEYS in modules and function.variables["SIGNING_SECRET_ARN"] != ""
    if name in LATER:
        assert not reads
        return
    assert reads == ("SigningSecret" in policies)


def test_a_claim_needs_no_sdk(imports: dict[str, set[str]]) -> None:
    modules = imports["tasks.on_queued"]
    assert "aideer.tasks.leases" in modules
    assert "aideer.tasks.executor" not in modules


def loaded_by(program: str) -> list[str]:
    """The modules that are there at the end of a program, in a fresh process."""
    environment = {**os.environ, "PYTHONPATH": str(FUNCTIONS)}
    command = [sys.executable, "-c", f"import sys, {program}; print(*sys.modules)"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()


RESOLVER = "aws_lambda_powertools.event_handler"


@pytest.mark.parametrize("handler", ["tasks.stream", "tasks.on_queued"])
def test_an_executor_loads_no_part_of_the_resolver(handler: str) -> None:
    """Powertools' resolver takes longer to import than all of the engine."""
    modules = loaded_by(f"{handler}, aideer.tasks.executor, aideer.tasks.admission")
    assert not [name for name in modules if name.startswith((RESOLVER, "aideer.web.http"))]


@pytest.mark.parametrize(
    "handler", ["operations.keep_warm", "operations.sum_days", "reconciliation.run", "tasks.sweep"]
)
def test_what_runs_on_a_schedule_loads_no_event_loop(handler: str) -> None:
    modules = loaded_by(handler)
    assert "aideer.core.aws" in modules
    assert "asyncio" not in modules
