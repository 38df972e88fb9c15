"""How long importing takes: `make sizes`, and the budgets of cold starts.

Each import runs in a Python of its own in Lambda's image. Milliseconds are this machine's, so budgets are ratios to what a function
cannot do without, measured in the same run.
"""

import json
import statistics
from dataclasses import dataclass
from typing import Any

from local.release import docker
from local.release.build import BUILD, BuildError, Built
from local.stack.template import ROOT, Template

PAGE = ROOT / "docs" / "performance.md"
TITLE = "## Functions"
REPETITIONS = 3
AT_ONCE = 30
"""The most functions of one container. An argument of a command can have 128 KB."""
NUMBERS = {
    "AUDIT_DAYS": "180",
    "SIGNUP_CREDITS": "0",
    "UNCOVERED_CREDITS": "1",
    "OPEN_TASKS": "5",
    "MOST_CHATS": "10000",
    "LEASE_SECONDS": "45",
    "TASK_SECONDS": "600",
}
"""Environment variables that functions read at import."""

IMPORT = """
import importlib.machinery as machinery, json, os, shutil, subprocess, sys, time
def without_bytecode(folder):
    plain = "/tmp/plain" + folder
    if not os.path.exists(plain):
        shutil.copytree(folder, plain, ignore=shutil.ignore_patterns("__pycache__"))
    return plain
if sys.argv[1] == "all":
    answer = {}
    jobs = json.loads(sys.argv[2])
    for job in jobs:
        job["path"] = ":".join(job["path"] if job["bytecode"] else map(without_bytecode, job["path"]))
    for job in jobs:
        environment = {**os.environ, **job["environment"], "PYTHONPATH": job["path"], "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-c", os.environ["SCRIPT"], "one", job["code"]]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        answer[job["name"]] = json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr[-2000:]}
    print(json.dumps(answer))
else:
    compiled, compile_ = [], machinery.SourceFileLoader.source_to_code
    def noted(self, data, path, *rest, **named):
        compiled.append(path)
        return compile_(self, data, path, *rest, **named)
    machinery.SourceFileLoader.source_to_code = noted
    began, worked = time.perf_counter(), time.process_time()
    exec(sys.argv[2])
    took = {"ms": (time.perf_counter() - began) * 1000, "cpu": (time.process_time() - worked) * 1000}
    print(json.dumps({**took, "compiled": compiled}))
"""


@dataclass(frozen=True)
class Budget:
    """The most that importing a function may take, as a ratio to a statement that runs on the same layers."""

    name: str
    statement: str
    ratio: float
    more: str = ""
    """A module that the function loads at its start beside its handler."""


CRUD = Budget(
    "botocore's DynamoDB client",
    "from botocore.session import get_session as get; get().create_client('dynamodb', region_name='us-east-1')",
    1.8,  # 1.4 to 1.6 when it was set: Powertools and pydantic are the rest
)
STREAM = Budget("dashscope", "import dashscope", 1.5, more="aideer.tasks.executor")
BUDGETS = {"ChatsGetFunction": CRUD, "UsersMeFunction": CRUD, "TasksStreamFunction": STREAM}
"""The functions whose imports are held to a budget."""


def measure_budgets(functions: list[Built]) -> dict[str, float]:
    """Return the ratio of each function of BUDGETS to its statement, both with bytecode.

    It compares the least processor time of REPETITIONS, because other work on the machine only adds to it.
    """
    chosen = [function for function in functions if function.name in BUDGETS]
    code = {function.name: BUDGETS[function.name].statement for function in chosen}
    whole = {
        function.name: f"import {', '.join(filter(None, (function.module, BUDGETS[function.name].more)))}"
        for function in chosen
    }
    runs = [
        (measure_imports(chosen, bytecode=True, code=whole), measure_imports(chosen, bytecode=True, code=code))
        for _ in range(REPETITIONS)
    ]

    def least(which: int, name: str) -> float:
        return float(min(run[which][name]["cpu"] for run in runs))

    return {function.name: least(0, function.name) / least(1, function.name) for function in chosen}


def measure_imports(functions: list[Built], *, bytecode: bool, code: dict[str, str] | None = None) -> dict[str, Any]:
    """Import each function in its own Python in Lambda's image. Return {name: {ms, compiled: [source without bytecode]}}.

    `code` has statements to run in place of the imports, by function.

    Raise BuildError if a function cannot be imported.
    """
    environment = dict.fromkeys(_variables(), "") | NUMBERS
    jobs = [
        {
            "name": function.name,
            "code": (code or {}).get(function.name, f"import {function.module}"),
            "path": function.path,
            "bytecode": bytecode,
            "environment": environment,
        }
        for function in functions
    ]
    script = f"import os; os.environ['SCRIPT'] = {IMPORT!r}\n{IMPORT}"
    answers: dict[str, Any] = {}
    for start in range(0, len(jobs), AT_ONCE):
        answers |= json.loads(docker.python(script, BUILD, "all", json.dumps(jobs[start : start + AT_ONCE])))
    if broken := {name: answer["error"] for name, answer in answers.items() if "error" in answer}:
        raise BuildError(
            "\n".join(f"{name} cannot be imported in Lambda's image: {said}" for name, said in broken.items())
        )
    return answers


def _variables() -> dict[str, Any]:
    variables: dict[str, Any] = Template().document["Globals"]["Function"]["Environment"]["Variables"]
    return variables


def report(functions: list[Built]) -> str:
    """Return the section of docs/performance.md."""
    with_, without = [
        [measure_imports(functions, bytecode=bytecode) for _ in range(REPETITIONS)] for bytecode in (True, False)
    ]
    rows = []
    for function in functions:
        fast, slow = [statistics.median(run[function.name]["ms"] for run in runs) for runs in (with_, without)]
        rows.append(f"| {function.name} | {function.size:.1f} | {fast:.0f} | {slow:.0f} | {fast / slow:.2f} |")
    return SECTION.format(title=TITLE, repetitions=REPETITIONS, rows="\n".join(rows))


SECTION = """{title}

    make build && make sizes     # makes this section again; it needs Docker

The size of each unpacked function with its layers, in MB (without the web adapter's, which is AWS's own), and the time that a new
Python in Lambda's image needs to import it, in ms, with and without the bytecode of `make build`. Medians of {repetitions},
all in one run on one machine: the ratio says what the bytecode is worth, the milliseconds are this machine's.

| function | MB | with bytecode | without | ratio |
| --- | ---: | ---: | ---: | ---: |
{rows}
"""


def write(section: str, title: str = TITLE) -> None:
    """Replace the page's section of this title."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(f"\n{title}\n")
    _, another, after = rest.partition("\n## ")
    PAGE.write_text(f"{before.rstrip()}\n\n{section}{another}{after}", encoding="utf-8")
