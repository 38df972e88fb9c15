"""Third-party packages: what running needs is part of what developing needs, and uv gets them where pip would."""

import ast
import functools
import http.server
import importlib.metadata
import os
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.release import packages
from local.release.packages import FailedError, parse_configuration, pins, step, uv_variables
from local.stack.template import ROOT

RUN, DEV = (set(pins(ROOT / f"requirements-{name}.txt")) for name in ("run", "dev"))


def test_what_running_needs_is_pinned_as_for_development() -> None:
    assert RUN < DEV


def test_running_needs_no_tool_of_development() -> None:
    names = {line.partition("==")[0] for line in RUN}
    assert {"ministack", "aws-sam-cli", "uvicorn", "pynamodb", "uv"} <= names
    assert not names & {"pytest", "mypy", "ruff", "hypothesis", "cfn-lint", "sympy", "boto3-stubs"}


OF_DEVELOPMENT = {
    *("docs/api_page.py", "docs/openapi.py", "docs/recording.py"),
    *("release/build.py", "release/docker.py", "release/sam.py", "operations/restore.py"),
}
"""Modules of local/ that a command of development runs, or an operator who has built."""


def test_all_that_handlers_and_the_local_stack_import_is_installed_for_running() -> None:
    """Also what is imported at its first use, which a start does not show."""
    names = {re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in RUN}
    holders = importlib.metadata.packages_distributions()
    files = [*(ROOT / "functions").rglob("*.py"), *(ROOT / "local").rglob("*.py")]
    missing = {}
    for path in files:
        if f"{path.parent.name}/{path.name}" in OF_DEVELOPMENT:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module or ""]
            for module in modules:
                held = holders.get(module.partition(".")[0], [])
                if held and not {re.sub(r"[-_.]+", "-", package).lower() for package in held} & names:
                    missing[f"{path.relative_to(ROOT)}: {module}"] = held
    assert missing == {}


def test_the_first_command_installs_what_running_needs_and_tests_add_the_rest() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    needed = dict(re.findall(r"^([a-z0-9]+): (\$\(\w+\))", makefile, re.MULTILINE))
    assert {needed[name] for name in ("run", "chat", "demo", "bench", "dlq", "stop")} == {"$(RUNS)"}
    assert {needed[name] for name in ("test", "lint", "types", "validate", "build", "deploy")} == {"$(INSTALLED)"}
    assert "$(INSTALLED): requirements-dev.txt $(RUNS)" in makefile
    files = {path.name for path in ROOT.glob("requirements-*.txt")}
    assert files == set(re.findall(r"-o (requirements-\w+\.txt)", makefile)), "make requirements makes them all"


def test_every_target_is_in_the_list() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    explained = set(re.findall(r"^([a-z0-9-]+):.*## ", makefile, re.MULTILINE))
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^make (\S+) ", shown, re.MULTILINE)) == explained
    declared = set(re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split())
    assert declared == explained


LISTED = """\
:env:.index-url='https://mirror.test/from-env'
global.cert='/etc/ssl/own.pem'
global.extra-index-url='\\nhttps://one.test/simple\\nhttps://two.test/simple'
global.find-links='/srv/a /srv/b'
global.index-url='https://mirror.test/global'
global.trusted-host='mirror.test two.test'
install.index-url='https://mirror.test/install'
install.timeout='60'
freeze.timeout='1'
not a line
"""


def test_pip_s_configuration_is_read_as_pip_reads_it() -> None:
    found = parse_configuration(LISTED)
    assert found["index-url"] == ["https://mirror.test/from-env"]
    assert found["extra-index-url"] == ["https://one.test/simple", "https://two.test/simple"]
    assert found["timeout"] == ["60"]


def test_uv_is_told_what_pip_is_configured_to() -> None:
    assert uv_variables(parse_configuration(LISTED), {}) == {
        "UV_DEFAULT_INDEX": "https://mirror.test/from-env",
        "UV_INDEX": "https://one.test/simple https://two.test/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/srv/a,/srv/b",
        "UV_INSECURE_HOST": "mirror.test two.test",
        "SSL_CERT_FILE": "/etc/ssl/own.pem",
        "UV_HTTP_TIMEOUT": "60",
    }


def test_what_the_caller_has_told_uv_wins() -> None:
    told = uv_variables(
        parse_configuration(LISTED), {"UV_DEFAULT_INDEX": "https://mine.test", "SSL_CERT_FILE": "/mine.pem"}
    )
    assert "UV_DEFAULT_INDEX" not in told
    assert "SSL_CERT_FILE" not in told
    proxied = uv_variables({"proxy": ["http://proxy.test:3128"]}, {"https_proxy": "http://mine.test"})
    assert proxied["HTTP_PROXY"] == "http://proxy.test:3128"
    assert "HTTPS_PROXY" not in proxied


def test_without_a_configuration_uv_believes_whom_the_machine_believes() -> None:
    assert uv_variables({}, {}) == {"UV_SYSTEM_CERTS": "true"}
    assert uv_variables({}, {"SSL_CERT_FILE": "/mine.pem"}) == {}


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
