"""The web client: the files below functions/web/site, served as they are.

A page is an HTML file. It names its files by addresses that begin with /web/. The server puts the site's version into them:
/web/page/main.js becomes /web/3f9a0c1d2e4b/page/main.js. The version is a hash of all files, so a browser keeps a file of the
current version for ever, and never mixes files of two versions. A page itself is asked for again each time (ETag).

A page also lists the modules that its scripts import (modulepreload), so that a browser fetches them at once and not in chains.

`make build` packs the site: a compressed file for each file, and a list of them. So a deployed function only reads a file. In a
source tree, a process reads the sources, and an edit shows at the next load.

Only names in the list lead to a file: no address is ever a path in the file system.
"""

import base64
import functools
import gzip
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from aideer.core import settings
from aideer.web import compression, etags

PACKED = "packed"
"""The folder of the packed site, beside the handler."""
LIST = "site.json"
PREFIX = "/web/"
PAGES = {"/": "index.html", "/admin": "admin.html"}
"""The pages, by their paths."""
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
"""Content types. A file of another kind is not served."""
FOR_EVER = "public, max-age=31536000, immutable"
ASK_AGAIN = "public, no-cache"

_SHARED = re.compile(r"/s/[\w-]+")
"""The addresses of shared chats. The chat's page reads them."""
_VERSION = re.compile(r"([0-9a-f]{12})/(.+)")
_ADDRESS = re.compile(r"""(?<==")/web/""")
_SCRIPT = re.compile(r'<script[^>]* src="/web/([^"]+)"')
_IMPORT = re.compile(r"""(?:^|[;}\s])(?:import|export)\b[\s\w{},*$]*?(?:\bfrom)?\s*["'](\.{1,2}/[^"']+)["']""")
_STRICT = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "font-src": "'self'",
    "manifest-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "dompurify",
}


@dataclass(frozen=True)
class File:
    """A file of the site: its content type, the hash of its content, and the content."""

    type: str
    tag: str
    packed: bytes
    """Compressed by gzip."""


class Site(NamedTuple):
    """All files by their names below the folder, with the version that names them together."""

    version: str
    files: Mapping[str, File]


def respond(site: Site, path: str, headers: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the response to GET `path`, as Lambda returns it, or None if the site has no such file.

    The names of `headers` are in lower case.
    """
    name, version = _find(path)
    file = site.files.get(name)
    if file is None:
        return None
    zips = compression.accepts_gzip(headers.get("accept-encoding"))
    tag = f"{file.tag}-gzip" if zips else file.tag
    answer = {
        "ETag": f'"{tag}"',
        "Cache-Control": FOR_EVER if version == site.version else ASK_AGAIN,
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    if _find_page(path):
        answer |= {"Content-Security-Policy": content_security_policy(), **_PAGE_HEADERS}
    if etags.matches(headers.get("if-none-match", ""), tag):
        return {"statusCode": 304, "headers": answer, "body": "", "isBase64Encoded": False}
    answer["Content-Type"] = file.type
    if not zips:
        text = gzip.decompress(file.packed).decode()
        return {"statusCode": 200, "headers": answer, "body": text, "isBase64Encoded": False}
    answer["Content-Encoding"] = "gzip"
    body = base64.b64encode(file.packed).decode()
    return {"statusCode": 200, "headers": answer, "body": body, "isBase64Encoded": True}


_PAGE_HEADERS = {
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def _find_page(path: str) -> str:
    """Return the name of the page at this path, or an empty one."""
    return PAGES["/"] if _SHARED.fullmatch(path) else PAGES.get(path, "")


def _find(path: str) -> tuple[str, str]:
    """Return the name of the file at this path, and the version that the path names."""
    if page := _find_page(path):
        return page, ""
    name, version = path.removeprefix(PREFIX) if path.startswith(PREFIX) else "", ""
    if found := _VERSION.fullmatch(name):
        # A page of an earlier version may ask for one of its files later. The present file of that name has to do.
        version, name = found.groups()
    return ("", "") if name in PAGES.values() else (name, version)  # such a page would have no policy


def content_security_policy() -> str:
    """Return the pages' policy: this origin alone, and the origins of streams and of uploads, which can be others.

    A text becomes HTML only through DOMPurify (Trusted Types), so a script of an answer has no way into the page.
    """
    streams = _origin(settings.STREAM_BASE_URL)
    uploads = uploads_origins()
    policy = _STRICT | {
        "connect-src": " ".join(dict.fromkeys(["'self'", *streams, *uploads])),
        "img-src": " ".join(dict.fromkeys(["'self'", "data:", "blob:", *uploads])),
    }
    return "; ".join(f"{name} {value}" for name, value in policy.items())


def uploads_origins() -> list[str]:
    """Return the origins to which browsers post files, and from which they get images."""
    if settings.UPLOADS_ORIGIN:
        return _origin(settings.UPLOADS_ORIGIN)
    suffix = "amazonaws.com.cn" if settings.AWS_REGION.startswith("cn-") else "amazonaws.com"
    hosts = [f"s3.{settings.AWS_REGION}", "s3"]  # which of the two, the SDK decides by the region
    return [f"https://{settings.UPLOADS_BUCKET}.{host}.{suffix}" for host in hosts]


def _origin(address: str) -> list[str]:
    parts = urlsplit(address)
    return [f"{parts.scheme}://{parts.netloc}"] if parts.netloc else []


def load(folder: Path) -> Site:
    """Return the packed site of the handlers' folder, or the site of its sources if it is not packed."""
    packed = folder / PACKED
    if (packed / LIST).exists():
        return _load_packed(packed)
    sources = folder / "site"
    return _make_from(sources, _stamp(sources))


def pack(sources: Path, folder: Path) -> Site:
    """Write the packed site of these sources for the handlers in a folder."""
    site = make(_read(sources))
    packed = folder / PACKED
    packed.mkdir(parents=True, exist_ok=True)
    listed = {}
    for name, file in site.files.items():
        stored = name.replace("/", "~") + ".gz"
        (packed / stored).write_bytes(file.packed)
        listed[name] = {"type": file.type, "tag": file.tag, "stored": stored}
    (packed / LIST).write_text(json.dumps({"version": site.version, "files": listed}), encoding="utf-8")
    return site


class _Packed(Mapping[str, File]):
    """The files of a packed site, each read when it is asked for the first time."""

    def __init__(self, folder: Path, listed: dict[str, dict[str, str]]) -> None:
        self._folder = folder
        self._listed = listed
        self._read: dict[str, File] = {}

    def __getitem__(self, name: str) -> File:
        if name not in self._read:
            about = self._listed[name]
            content = (self._folder / about["stored"]).read_bytes()
            self._read[name] = File(about["type"], about["tag"], content)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._listed)

    def __len__(self) -> int:
        return len(self._listed)


@functools.cache
def _load_packed(packed: Path) -> Site:
    about = json.loads((packed / LIST).read_text(encoding="utf-8"))
    return Site(about["version"], _Packed(packed, about["files"]))


@functools.lru_cache(maxsize=1)
def _make_from(sources: Path, _: frozenset[tuple[str, int, int]]) -> Site:
    return make(_read(sources))


def _stamp(sources: Path) -> frozenset[tuple[str, int, int]]:
    """Return what differs after an edit: names, times and sizes."""
    found = ((path, path.stat()) for path in sources.rglob("*") if path.suffix in TYPES)
    return frozenset((str(path), stat.st_mtime_ns, stat.st_size) for path, stat in found)


def _read(sources: Path) -> dict[str, bytes]:
    found = sorted(path for path in sources.rglob("*") if path.suffix in TYPES and path.is_file())
    return {path.relative_to(sources).as_posix(): path.read_bytes() for path in found}


def make(files: Mapping[str, bytes]) -> Site:
    """Return the site of these files, with the version in the addresses of its pages."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name} {len(content)} ".encode() + content)
    version = digest.hexdigest()[:12]
    made = {}
    for name, content in files.items():
        served = _finish_page(content.decode(), files, version).encode() if name in PAGES.values() else content
        tag = hashlib.sha256(served).hexdigest()[:32]
        made[name] = File(TYPES[Path(name).suffix], tag, gzip.compress(served, 9, mtime=0))
    return Site(version, made)


def _finish_page(page: str, files: Mapping[str, bytes], version: str) -> str:
    modules = list(_imported(_SCRIPT.findall(page), files))
    preloads = "".join(f'<link rel="modulepreload" href="/web/{name}">\n' for name in modules)
    return _ADDRESS.sub(f"/web/{version}/", page.replace("</head>", f"{preloads}</head>", 1))


def _imported(scripts: list[str], files: Mapping[str, bytes]) -> Iterator[str]:
    """Yield the modules that these scripts import, and those that these import, each once."""
    known, waiting = set(scripts), list(scripts)
    while waiting:
        name = waiting.pop(0)
        for imported in _IMPORT.findall(files.get(name, b"").decode()):
            module = _join(name, imported)
            if module not in known and module in files:
                known.add(module)
                waiting.append(module)
                yield module


def _join(importer: str, imported: str) -> str:
    """Return the name of a module that another one imports by a relative address."""
    parts = importer.split("/")[:-1]
    for part in imported.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part != ".":
            parts.append(part)
    return "/".join(parts)
