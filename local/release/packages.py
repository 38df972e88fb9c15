"""Third-party packages: the environments of make targets, and uv with pip's configuration.

`install FOLDER REQUIREMENTS` makes a virtual environment, if there is none. It installs pins into it and reports its progress.
`uv ARGUMENTS` runs uv.

uv does not read pip's configuration, so both commands pass it to uv: a mirror, further indexes, certificates, a proxy. They read
it each time and write it nowhere. This module imports only the standard library, because no other package is installed yet.
"""

import ast
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

VENV = Path(".venv")
UV_PINS = Path("requirements-run.txt")
"""The file that pins uv."""
SECTIONS = (":env:", "install", "global")
"""Sections of pip's configuration, in order of precedence."""
WAIT_SECONDS = 0.2
SAY_SECONDS = 10.0
"""Seconds between two progress lines of a step if there is no terminal."""


class FailedError(Exception):
    """A step failed. The message is for the console, and contains the step's output."""


def parse_configuration(listed: str) -> dict[str, list[str]]:
    """Return pip's options from the output of `pip config list`: lines like `global.index-url='https://…'`."""
    found: dict[str, dict[str, list[str]]] = {}
    for line in listed.splitlines():
        key, equals, value = line.partition("=")
        section, _, option = key.rpartition(".")
        if equals and section in SECTIONS:
            with contextlib.suppress(ValueError, SyntaxError):
                found.setdefault(option, {})[section] = str(ast.literal_eval(value)).split()
    return {option: next(by[section] for section in SECTIONS if section in by) for option, by in found.items()}


def uv_variables(pip: Mapping[str, list[str]], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that give uv pip's configuration, except those that the environment already has."""
    told: dict[str, str] = {}
    for option, name, separator in (
        ("index-url", "UV_DEFAULT_INDEX", " "),
        ("extra-index-url", "UV_INDEX", " "),
        ("find-links", "UV_FIND_LINKS", ","),
        ("trusted-host", "UV_INSECURE_HOST", " "),
        ("cert", "SSL_CERT_FILE", " "),
        ("client-cert", "SSL_CLIENT_CERT", " "),
        ("proxy", "ALL_PROXY", " "),
        ("default-timeout", "UV_HTTP_TIMEOUT", " "),
        ("timeout", "UV_HTTP_TIMEOUT", " "),
        ("retries", "UV_HTTP_RETRIES", " "),
    ):
        if values := pip.get(option):
            told[name] = separator.join(values)
    if "UV_INDEX" in told:
        told["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # pip takes the best version of all indexes
    if pip.get("keyring-provider", [""])[0] == "subprocess":
        told["UV_KEYRING_PROVIDER"] = "subprocess"
    if "SSL_CERT_FILE" not in told:
        told["UV_SYSTEM_CERTS"] = "true"  # pip trusts the machine's certificates
    if "SSL_CERT_FILE" in environ:
        told.pop("UV_SYSTEM_CERTS", None)
    if "ALL_PROXY" in told:
        told |= {"HTTP_PROXY": told["ALL_PROXY"], "HTTPS_PROXY": told["ALL_PROXY"]}
    return {name: value for name, value in told.items() if name not in environ and name.lower() not in environ}


def environment(python: str = sys.executable) -> dict[str, str]:
    """Return this process's environment with pip's configuration for uv in it."""
    listed = subprocess.run([python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    return {**os.environ, **uv_variables(parse_configuration(listed.stdout), os.environ)}


def uv(*arguments: str) -> list[str]:
    """Return the command that runs uv."""
    return [str(VENV / "bin" / "uv"), *arguments]


def step(what: str, command: list[str], environ: Mapping[str, str] | None = None) -> None:
    """Run one step, show its progress on the console, and print its duration.

    Raises
    ------
    FailedError
        Its exit code is not 0.
    """
    lively, began = sys.stdout.isatty(), time.monotonic()
    said_at = began
    if not lively:
        print(f"  {what} ...", flush=True)
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environ)
        try:
            while process.poll() is None:
                now = time.monotonic()
                if lively:
                    print(f"\r  {what} ... {now - began:.0f} s", end="", flush=True)
                elif now - said_at >= SAY_SECONDS:
                    said_at = now
                    print(f"  {what} ... {now - began:.0f} s", flush=True)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(WAIT_SECONDS)
        finally:
            process.kill()
            process.wait()
        took = time.monotonic() - began
        print(f"{chr(13) if lively else ''}  {what}: {took:.0f} s", flush=True)
        if process.returncode:
            output.seek(0)
            said = output.read().decode(errors="replace").strip()
            raise FailedError(f"{said}\n{what} failed.")


def pins(requirements: Path) -> list[str]:
    """Return the lines of a file of pins."""
    return [line for line in requirements.read_text().splitlines() if line and not line.startswith("#")]


def install(folder: Path, requirements: Path) -> None:
    """Install these pins into an environment.

    Dependencies are not resolved: the file lists every needed package. It leaves some out on purpose (requirements-excludes.in),
    and holds versions that other packages' pins forbid (requirements-overrides.in).

    Bytecode is not compiled: for all packages that takes twelve times as long as installing. Python compiles each imported module
    later. If PYTHONDONTWRITEBYTECODE forbids that, the installer compiles all of it.

    Raises
    ------
    FailedError
        A step failed.
    """
    count = len(pins(requirements))
    print(f"Setting up {folder} with {count} packages; this is done once.", flush=True)
    python, pip = folder / "bin" / "python", folder / "bin" / "pip"
    if not (python.exists() and pip.exists()):  # an environment without pip is an interrupted one
        step("making the environment", [getattr(sys, "_base_executable", sys.executable), "-m", "venv", str(folder)])
    [version] = [line for line in pins(UV_PINS) if line.startswith("uv==")]
    installer = VENV / "bin" / "python"
    if folder == VENV:
        quiet = ["-qq", "--disable-pip-version-check"]
        step("fetching the installer", [str(installer), "-m", "pip", "install", *quiet, version])
    compiled = ["--compile-bytecode"] if os.environ.get("PYTHONDONTWRITEBYTECODE") else []
    command = uv("pip", "install", "--python", str(python), "--no-deps", *compiled, "-r", str(requirements))
    step(f"installing {count} packages", command, environment(str(installer)))


def main(arguments: list[str]) -> int:
    """Run the command, and return the exit code."""
    match arguments:
        case ["install", folder, requirements]:
            try:
                install(Path(folder), Path(requirements))
            except FailedError as error:
                print(error, file=sys.stderr)
                return 1
            return 0
        case ["uv", *rest]:
            return subprocess.run(uv(*rest), env=environment(), check=False).returncode
        case _:
            print("usage: python -m local.release.packages install FOLDER REQUIREMENTS | uv ARGUMENTS", file=sys.stderr)
            return 2


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
