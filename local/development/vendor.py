"""`make vendor`: copy what the web client uses into functions/web/site/: the libraries from their npm packages, and clients/js.

node/package-lock.json pins the packages, with the hash of each. A browser does not look for packages, so an import of another
package becomes an import of the file beside it. VENDOR.json lists versions, licences and hashes. tests/web/test_vendor.py compares
the folder with what this module makes.
"""

import argparse
import hashlib
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from local.stack.processes import ROOT

MODULES = ROOT / ".venv" / "node" / "node_modules"
VENDOR = ROOT / "functions" / "web" / "site" / "vendor"
LIST = "VENDOR.json"
CLIENT = ROOT / "clients" / "js" / "aideer.js"
SERVED_CLIENT = VENDOR.parent / CLIENT.name
FILES = {
    "preact.js": ("preact", "dist/preact.mjs"),
    "hooks.js": ("preact", "hooks/dist/hooks.mjs"),
    "signals-core.js": ("@preact/signals-core", "dist/signals-core.mjs"),
    "signals.js": ("@preact/signals", "dist/signals.mjs"),
    "htm.js": ("htm", "dist/htm.mjs"),
    "marked.js": ("marked", "lib/marked.esm.js"),
    "dompurify.js": ("dompurify", "dist/purify.min.js"),
    "temml.js": ("temml", "dist/temml.min.js"),
    "highlight/core.js": ("@highlightjs/cdn-assets", "es/core.min.js"),
}
"""By file: its package, and its place there."""
LANGUAGES = (
    *(
        "bash",
        "c",
        "cpp",
        "csharp",
        "css",
        "diff",
        "dockerfile",
        "go",
        "graphql",
        "ini",
        "java",
        "javascript",
        "json",
        "kotlin",
    ),
    *(
        "latex",
        "lua",
        "makefile",
        "markdown",
        "objectivec",
        "perl",
        "php",
        "plaintext",
        "powershell",
        "python",
        "r",
        "ruby",
        "rust",
    ),
    *("scss", "shell", "sql", "swift", "typescript", "xml", "yaml"),
)
"""Of highlight.js: a file each, which the page loads when an answer names the language."""
IMPORTED = {"preact": "./preact.js", "preact/hooks": "./hooks.js", "@preact/signals-core": "./signals-core.js"}
"""What packages import, and the file beside them that has it."""
APPENDED = {
    "dompurify.js": "\nexport default globalThis.DOMPurify;\n",
    "temml.js": "\nexport default temml;\n",
}
"""The small forms of these are scripts that set a variable. Their forms as modules are two and three times as large."""
TYPES = {
    "preact.d.ts": 'export * from "preact";\n',
    "hooks.d.ts": 'export * from "preact/hooks";\n',
    "signals-core.d.ts": 'export * from "@preact/signals-core";\n',
    "signals.d.ts": 'export * from "@preact/signals";\n',
    "htm.d.ts": 'import htm from "htm";\nexport default htm;\n',
    "marked.d.ts": 'export * from "marked";\n',
    "dompurify.d.ts": 'export * from "dompurify";\nexport { default } from "dompurify";\n',
    "temml.d.ts": 'export { default } from "temml";\n',
    "highlight/core.d.ts": "declare const hljs: any;\nexport default hljs;\n",
}
"""For tsc, which finds the packages by node/tsconfig.json. They are not served."""
_IMPORT = re.compile(r"""(\bfrom|\bimport)\s*(["'])([^"'./][^"']*)\2""")
_SOURCE_MAP = re.compile(r"^//# sourceMappingURL=.*\n?", re.MULTILINE)


class VendorError(Exception):
    """The packages are not as this module expects them. The message is for the console."""


@dataclass(frozen=True)
class Package:
    """An installed npm package."""

    name: str

    @property
    def folder(self) -> Path:
        """Its folder."""
        return MODULES / self.name

    @property
    def about(self) -> dict[str, str]:
        """Its version and its licence."""
        described = json.loads((self.folder / "package.json").read_text(encoding="utf-8"))
        return {"version": described["version"], "license": described["license"], "text": self.license_file}

    @property
    def license_file(self) -> str:
        """The vendored file with the text of its licence."""
        return f"licenses/{self.name.removeprefix('@').replace('/', '-')}.txt"


def make() -> dict[str, bytes]:
    """Return every file of the folder by its name there.

    Raises
    ------
    VendorError
        A package imports another one that is not vendored.
    """
    sources = FILES | {
        f"highlight/{language}.js": ("@highlightjs/cdn-assets", f"es/languages/{language}.min.js")
        for language in LANGUAGES
    }
    made: dict[str, bytes] = {}
    listed: dict[str, dict[str, str]] = {}
    for name, (package, source) in sorted(sources.items()):
        text = (MODULES / package / source).read_text(encoding="utf-8")
        made[name] = _relative(name, _SOURCE_MAP.sub("", text)).encode() + APPENDED.get(name, "").encode()
        listed[name] = {"package": package, "source": source, "sha256": hashlib.sha256(made[name]).hexdigest()}
    packages = [Package(name) for name in sorted({package for package, _ in sources.values()})]
    for package_ in packages:
        made[package_.license_file] = (package_.folder / "LICENSE").read_bytes()
    about = {"packages": {package_.name: package_.about for package_ in packages}, "files": listed}
    made |= {name: text.encode() for name, text in TYPES.items()}
    made[LIST] = (json.dumps(about, indent=2) + "\n").encode()
    return made


def _relative(name: str, text: str) -> str:
    def replace(found: re.Match[str]) -> str:
        keyword, quote, imported = found.groups()
        if imported not in IMPORTED:
            raise VendorError(f"{name} imports {imported}, which is not in {VENDOR.relative_to(ROOT)}")
        return f"{keyword}{quote}{IMPORTED[imported]}{quote}"

    # In other files, the words `from "…"` are parts of texts, such as the keywords of a language.
    return _IMPORT.sub(replace, text) if name in ("hooks.js", "signals.js", "signals-core.js", "preact.js") else text


def write() -> int:
    """Make the folder anew, and copy the client. Return the number of the folder's files."""
    made = make()
    SERVED_CLIENT.write_bytes(CLIENT.read_bytes())
    for path in VENDOR.rglob("*"):
        if path.is_file() and path.relative_to(VENDOR).as_posix() not in made:
            path.unlink()
    for name, content in made.items():
        path = VENDOR / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return len(made)


def find_differences() -> list[str]:
    """Return the files that differ from what `write` would make, with those that are missing or too many."""
    wanted = {VENDOR / name: content for name, content in make().items()} | {SERVED_CLIENT: CLIENT.read_bytes()}
    there = {path for path in VENDOR.rglob("*") if path.is_file()} | {SERVED_CLIENT}
    differing = [path for path in there | set(wanted) if not path.exists() or path.read_bytes() != wanted.get(path)]
    return sorted(str(path.relative_to(ROOT)) for path in differing)


def main() -> int:
    """Copy the libraries and the client, or compare the copies."""
    parser = argparse.ArgumentParser(prog="make vendor", description="Copies what the web client uses.")
    parser.add_argument("--check", action="store_true", help="only compare")
    try:
        if parser.parse_args().check:
            found = find_differences()
            print(f"make vendor would change: {', '.join(found)}" if found else "all as the packages have it")
            return 1 if found else 0
        print(f"{write()} files in {VENDOR.relative_to(ROOT)}")
    except (VendorError, OSError) as error:
        print(f"ERROR {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
