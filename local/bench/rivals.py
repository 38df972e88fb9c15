"""The programs that AIDeer is compared with, or asked through, each a process of its own: the bare relay, the LiteLLM proxy and
openai-python.
"""

import contextlib
import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from local.bench.answers import Answer, BenchError
from local.bench.ways import (
    API_KEY,
    COMPATIBLE,
    LITELLM,
    LITELLM_BEFORE,
    MAX_TOKENS,
    MODEL,
    SDK,
    SDK_COMPATIBLE,
    Aideer,
    Way,
    make_messages,
    to_completions,
    to_relay,
)
from local.stack.ephemeral import find_free_port
from local.stack.processes import ROOT

LITELLM_VENV = ROOT / ".venv" / "litellm"
NO_LITELLM = "LiteLLM is left out: .venv/litellm is not set up (`make .venv/litellm/.installed` says why)."
THROUGH_AIDEER = "aideer"
"""The name of AIDeer's model in LiteLLM's configuration."""
CLIENTS_VENV = ROOT / ".venv" / "clients"
NO_CLIENTS = "openai-python is left out: .venv/clients is not set up (`make .venv/clients/.installed` says why)."
START_SECONDS = 120.0
STOP_SECONDS = 10.0


@contextlib.contextmanager
def run_relay(provider: str, folder: Path) -> Iterator[Way]:
    """Run the bare relay of the provider at this base URL. Its output goes into a file in `folder`."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port, environment = sock.getsockname()[1], {**os.environ, "DASHSCOPE_HTTP_BASE_URL": provider}
        command = [sys.executable, "-m", "local.bench.relay", str(sock.fileno())]
        with _running(command, environment, folder / "relay.log", descriptors=(sock.fileno(),)):
            yield to_relay(
                f"http://127.0.0.1:{port}"
            )  # the socket listens already, so a first request waits for the start


@contextlib.contextmanager
def run_litellm(compatible: str, aideer: Aideer, folder: Path) -> Iterator[list[Way]]:
    """Run the LiteLLM proxy before the provider's OpenAI-compatible base URL, and before AIDeer's.

    Yield no way if LiteLLM is not installed.

    It gets its own environment: a variable of the caller's could change what it does, such as use a database. It sends no
    telemetry, and reads the prices of models from its package.
    """
    if not (LITELLM_VENV / ".installed").exists():
        yield []
        return
    port, key = find_free_port(), f"sk-{secrets.token_hex(16)}"
    config = folder / "litellm.yaml"
    config.write_text(json.dumps(litellm_config(compatible, aideer.v1, aideer.key)))  # JSON is YAML
    command = [
        str(LITELLM_VENV / "bin" / "litellm"),
        "--config",
        str(config),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(folder),
        "LITELLM_MASTER_KEY": key,
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
    }
    with _running([*command, "--telemetry", "False"], environment, folder / "litellm.log") as process:
        _wait_until_alive(process, port, folder / "litellm.log")
        base_url = f"http://127.0.0.1:{port}/v1"
        yield [
            to_completions(LITELLM, base_url, key),
            to_completions(LITELLM_BEFORE, base_url, key, model=THROUGH_AIDEER),
        ]


def litellm_config(compatible: str, v1: str, key: str) -> dict[str, object]:
    """Return LiteLLM's configuration: one model of DashScope's, and the same one of AIDeer's, each at its base URL.

    LiteLLM repeats no request: a repetition would be measured as one slow answer.
    """
    models = {
        MODEL: {"model": f"dashscope/{MODEL}", "api_base": compatible, "api_key": API_KEY},
        THROUGH_AIDEER: {"model": f"openai/{MODEL}", "api_base": v1, "api_key": key},
    }
    return {
        "model_list": [{"model_name": name, "litellm_params": parameters} for name, parameters in models.items()],
        "litellm_settings": {"telemetry": False, "num_retries": 0},
    }


@contextlib.contextmanager
def run_openai(compatible: str, aideer: Aideer) -> Iterator[list[Way]]:
    """Run openai-python, which asks the provider and AIDeer. Yield no way if it is not installed."""
    if not (CLIENTS_VENV / ".installed").exists():
        yield []
        return
    command = [str(CLIENTS_VENV / "bin" / "python"), str(Path(__file__).with_name("openai_asks.py"))]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def to_sdk(name: str, base_url: str, key: str) -> Way:
        return Way(name, SDK_COMPATIBLE, lambda question: _ask_by_openai(process, base_url, key, question))

    try:
        yield [to_sdk(SDK_COMPATIBLE, compatible, API_KEY), to_sdk(SDK, aideer.v1, aideer.key)]
    finally:
        process.communicate()  # the end of its questions ends it


def _ask_by_openai(process: subprocess.Popen[str], base_url: str, key: str, question: str) -> Answer:
    asks = {"base_url": base_url, "api_key": key, "model": MODEL, "max_tokens": MAX_TOKENS}
    questions, answers = cast(IO[str], process.stdin), cast(IO[str], process.stdout)
    questions.write(json.dumps({**asks, "messages": make_messages(question)}) + "\n")
    questions.flush()
    said = answers.readline()
    if not said:
        raise BenchError("openai-python ended: its error is above")
    told = json.loads(said)
    answer = Answer(told["asked"], told["asked"])
    for moment, text in told["pieces"]:
        answer.add(moment, text)
    return answer


def to_compatible(provider: str) -> tuple[str, Way]:
    """Return the OpenAI-compatible base URL of the simulated provider at this base URL, and the way straight to it."""
    base_url = f"{provider.removesuffix('/api/v1')}/compatible-mode/v1"
    return base_url, to_completions(COMPATIBLE, base_url)


@contextlib.contextmanager
def _running(
    command: list[str], environment: dict[str, str], log: Path, descriptors: tuple[int, ...] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=descriptors,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        process.kill()
        process.wait()


def _wait_until_alive(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    give_up_at = time.monotonic() + START_SECONDS
    while not _is_alive(port):
        if process.poll() is not None or time.monotonic() > give_up_at:
            raise BenchError(f"LiteLLM did not start: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)


def _is_alive(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection), contextlib.suppress(OSError):
        connection.request("GET", "/health/liveliness")
        return connection.getresponse().status == 200
    return False
