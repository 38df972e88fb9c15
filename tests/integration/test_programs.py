"""Parts that run as programs, or that start them. Each runs in a process of its own."""

import asyncio
import functools
import http.server
import os
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from aideer.prompts import tokenizer
from aideer.providers import dashscope
from local.release import build, packages
from local.release.packages import FailedError, step
from local.simulators.dashscope import Server
from local.stack import prices
from local.stack.template import ROOT
from tests.waiting import PATIENCE_SECONDS

BUILT = (ROOT / "tests/fixtures/built.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(delay_ms=0) as server:
        yield server


def test_a_loop_that_is_never_closed_ends_quietly(server: Server) -> None:
    code = """
        import asyncio, logging, sys
        logging.basicConfig()
        from aideer.providers import dashscope
        async def talk():
            message = {"role": "user", "content": "/sim tokens=3"}
            where = dict(endpoint="text", api_key="sk-test", base_url=sys.argv[1], idle_seconds=60)
            async for chunk in dashscope.stream("qwen-plus", [message], {}, **where):
                print(chunk.finish_reason)
        loop = asyncio.new_event_loop()
        loop.run_until_complete(talk())
    """
    lines = "\n".join(line.removeprefix(" " * 8) for line in code.splitlines())
    done = subprocess.run(
        [sys.executable, "-c", lines, server.base_url],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["None", "None", "None", "stop"], "")


def test_nothing_heavy_is_loaded_before_the_first_count():
    program = """
import sys
from aideer.prompts import tokenizer
tokenizer.compute_bound("你好" + chr(0x1d1c0))
assert not {"tiktoken", "regex", "dashscope"} & set(sys.modules)
assert tokenizer.count(["hello"]) == 1
assert "tiktoken" in sys.modules
assert not {"dashscope", "requests", "aiohttp"} & set(sys.modules)
"""
    functions = ROOT / "functions"
    subprocess.run([sys.executable, "-c", program], check=True, env={"PYTHONPATH": str(functions)}, timeout=120)


def test_a_layer_with_the_vocabulary_alone_suffices(tmp_path):
    """As layers/Makefile makes it: dashscope is a folder with one file."""
    import regex
    import tiktoken

    resources = tmp_path / "dashscope" / "resources"
    resources.mkdir(parents=True)
    (resources / "qwen.tiktoken").symlink_to(tokenizer._vocabulary())
    for package in (regex, tiktoken):
        folder = Path(package.__file__).parent
        (tmp_path / folder.name).symlink_to(folder)
    (tmp_path / "tiktoken_ext").symlink_to(Path(tiktoken.__file__).parents[1] / "tiktoken_ext")
    program = "from aideer.prompts import tokenizer; assert tokenizer.count(['hello world']) == 2"
    functions = ROOT / "functions"
    command = [sys.executable, "-S", "-c", program]
    subprocess.run(command, check=True, env={"PYTHONPATH": f"{functions}:{tmp_path}"}, timeout=120)


async def answer(base_url: str) -> list[dashscope.Chunk]:
    """All that the provider at this address says to a greeting."""
    asked = [{"role": "user", "content": "hi"}]
    stream = dashscope.stream(
        "qwen-plus", asked, {}, endpoint="text", api_key="sk-test", base_url=base_url, idle_seconds=60
    )
    return [chunk async for chunk in stream]


def test_a_deployed_function_bills_by_the_shipped_tables() -> None:
    reads = "from aideer.billing import pricing; print(pricing.TABLES)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "functions")}
    told = subprocess.run([sys.executable, "-c", reads], env=environment, capture_output=True, text=True, check=True)
    assert Path(told.stdout.strip()) == prices.TABLES


def test_the_simulated_dashscope_runs_as_a_program() -> None:
    program = subprocess.Popen(
        [sys.executable, "-m", "local.simulators.dashscope", "--port", "0", "--tokens", "3", "--delay-ms", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout
        ready, url = program.stdout.readline().split()
        assert ready == "READY"
        assert len(asyncio.run(answer(url))) == 4
    finally:
        program.terminate()
        program.communicate(timeout=PATIENCE_SECONDS)


def test_bytecode_is_made_once_and_lies_beside_each_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "template.yaml").write_text(BUILT)
    folders = ("LightFunction/chats", "HeavyFunction/chats", "CoreLayer/python", "DashscopeLayer/python")
    for name in folders:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "module.py").write_text("x = 1\n")
    monkeypatch.setattr(build, "_python", lambda: sys.executable)
    assert build.compile_all(build.built(tmp_path))
    for name in folders:
        [compiled] = (tmp_path / name / "__pycache__").glob("module.*.pyc")
        unchecked = 0b01  # PEP 552: a hash, which nobody compares
        assert int.from_bytes(compiled.read_bytes()[4:8], "little") == unchecked
        assert b"/var/task/chats" in compiled.read_bytes() or b"/opt/python" in compiled.read_bytes()


def test_a_version_manager_s_promise_is_no_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shim = tmp_path / "python3.13"
    shim.write_text("#!/bin/sh\necho 'pyenv: python3.13: command not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build._python() is None


def test_a_module_runs_with_the_lines_of_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"ADMIN_PASSWORD=pa ss\r\nPORT=1\r\nPROT=2\r\n")
    (tmp_path / "show.py").write_text(
        "import os, sys; print(os.environ['ADMIN_PASSWORD'], os.environ['PORT'], sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-m", "local.stack.environment", "show", "--x", "a b"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{tmp_path}", "PORT": "7"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.stdout == "pa ss 7 ['--x', 'a b']\n"
    assert done.stderr == "Warning: .env: nothing reads PROT. Did you mean PORT?\n"


def test_every_target_is_in_the_list() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    explained = set(re.findall(r"^([a-z0-9-]+):.*## ", makefile, re.MULTILINE))
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^make (\S+) ", shown, re.MULTILINE)) == explained
    declared = set(re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split())
    assert declared == explained


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """An index with one package that no other has, and the paths that were asked of it."""
    asked: list[str] = []
    wheel = tmp_path / "index" / "simple" / "aideer-probe" / "aideer_probe-1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("aideer_probe.py", "found = True\n")
        file.writestr(
            "aideer_probe-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: aideer-probe\nVersion: 1.0\n"
        )
        file.writestr(
            "aideer_probe-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr("aideer_probe-1.0.dist-info/RECORD", "")
    (wheel.parent / "index.html").write_text(f'<!doctype html><a href="{wheel.name}">{wheel.name}</a>')

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, code: object = "-", size: object = "-") -> None:
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path / "index"))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/simple/", asked
        server.shutdown()


@pytest.mark.parametrize("way", ["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "index-url", "extra-index-url"])
def test_a_mirror_that_pip_is_configured_to_is_asked(way: str, mirror: tuple[str, list[str]], tmp_path: Path) -> None:
    url, asked = mirror
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    environment = {**kept, "UV_NO_CACHE": "1", "NO_PROXY": "127.0.0.1", "PIP_CONFIG_FILE": os.devnull}
    if way.startswith("PIP_"):
        environment[way] = url
    else:
        (tmp_path / "pip.conf").write_text(f"[global]\n{way} = {url}\n")
        environment["PIP_CONFIG_FILE"] = str(tmp_path / "pip.conf")
    if "xtra" in way.lower():
        environment["UV_DEFAULT_INDEX"] = url.replace("/simple/", "/nothing/")
    command = [
        sys.executable,
        "-m",
        "local.release.packages",
        "uv",
        "pip",
        "install",
        "--quiet",
        "--target",
        str(tmp_path / "there"),
    ]
    done = subprocess.run(
        [*command, "aideer-probe"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "there" / "aideer_probe.py").exists()
    assert "/simple/aideer-probe/" in asked


def test_a_step_says_what_it_does_and_how_long_it_took(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "SAY_SECONDS", 0.0)
    step("waiting", [sys.executable, "-c", "import time; time.sleep(0.3); print('noise')"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "  waiting ..."
    assert re.fullmatch(r"  waiting \.\.\. \d+ s", lines[1])
    assert re.fullmatch(r"  waiting: \d+ s", lines[-1])
    assert "noise" not in lines


def test_a_step_that_fails_shows_what_it_said() -> None:
    with pytest.raises(FailedError, match=r"no such package\nfetching failed\."):
        step("fetching", [sys.executable, "-c", "import sys; sys.exit('no such package')"])
