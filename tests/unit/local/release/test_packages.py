"""Third-party packages: what running needs is part of what developing needs, and uv gets them where pip would."""

import ast
import importlib.metadata
import re

from local.release.packages import parse_configuration, pins, uv_variables
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
