"""`python -m local.stack.environment MODULE ARGUMENTS`: run a module of the project with the variables of `.env`.

`.env` is data and never shell: python-dotenv reads it, so a value may hold spaces, quotes and `$`. A variable of the caller's
environment takes precedence over the file. Every make target that reads `.env` uses this module.
"""

import difflib
import io
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NoReturn

from dotenv.parser import parse_stream

from local.stack.settings import NAMES, SettingsError

FILE = Path(".env")
OTHERS = frozenset(
    {"AIDEER_URL", "NO_COLOR", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"}
    | {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"}
)
"""Names that may stand in `.env` besides those of Settings. Clients and libraries read them."""
NEAR, VERY_NEAR = 0.6, 0.85
"""Similarities to a known name (difflib's ratio). From the first on, a warning about a line of `.env` proposes the known name.
From the second on, a variable of the environment counts as a typing mistake. It is higher, because the environment holds many
unrelated names.
"""


def read(path: Path = FILE) -> dict[str, str]:
    """Return the variables of a file like `.env`. Return none if there is no file.

    Raises
    ------
    SettingsError
        The file cannot be read, or a line of it is no assignment. The message contains no value, which may be a secret.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not in UTF-8. Save it in that encoding.") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}.") from None
    found = {}
    for binding in parse_stream(io.StringIO(text)):
        name, value, line = binding.key, binding.value, _first_line(binding.original.string, binding.original.line)
        if binding.error or (name is not None and value is None) or "\0" in (value or ""):
            raise SettingsError(f"{path}, line {line}: this is not like NAME=value or NAME='value with quotes'.")
        if name is not None and value is not None:
            found[name] = value
    return found


def _first_line(text: str, line: int) -> int:
    """Return the line number at which an assignment begins. The parser counts the empty lines before it as part of it."""
    return line + text[: len(text) - len(text.lstrip())].count("\n")


def warnings(lines: Iterable[str], environ: Iterable[str], path: Path = FILE) -> list[str]:
    """Return a sentence for each name that no program reads, and for each environment variable that is almost a known one."""
    found = []
    for name in lines:
        if name not in NAMES and name not in OTHERS:
            near = difflib.get_close_matches(name.upper(), NAMES, 1, NEAR)
            found.append(f"{path}: nothing reads {name}." + (f" Did you mean {near[0]}?" if near else ""))
    for name in environ:
        if name not in NAMES and (near := difflib.get_close_matches(name, NAMES, 1, VERY_NEAR)):
            found.append(f"nothing reads the variable {name}. Did you mean {near[0]}?")
    return found


def merge(lines: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return both. The caller's environment takes precedence."""
    return {**lines, **environ}


def main() -> NoReturn:
    """Replace this process by the module."""
    try:
        lines = read()
    except SettingsError as error:
        sys.exit(str(error))
    for warning in warnings(lines, os.environ):
        print(f"Warning: {warning}", file=sys.stderr)
    sys.stderr.flush()
    os.execve(  # noqa: S606 - our own, without a shell
        sys.executable, [sys.executable, "-m", *sys.argv[1:]], merge(lines, os.environ)
    )


if __name__ == "__main__":
    main()
