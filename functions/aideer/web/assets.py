"""Assets: large constant texts, compressed once and served with an ETag.

    PAGE = Asset("page.html", make, "text/html; charset=utf-8", Path(__file__).parent)
    return PAGE.respond(if_none_match)

`make build` packs each asset into files beside its handler, so that a deployed function neither makes nor compresses anything. In a
source tree there are no such files. Then a process makes the asset at the first call, and keeps it.

Any cache may keep an asset for 5 minutes, separately for each Accept-Encoding. After that, the ETag confirms it (RFC 9110, section
13.1.2). The two codings have two tags, because a strong tag names the bytes.
"""

import base64
import functools
import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aws_lambda_powertools.event_handler import Response

from aideer.core import settings
from aideer.core.errors import NotFound
from aideer.web import compression, etags
from aideer.web.http import app

FOLDER = "packed"
"""The folder of packed assets, beside the handlers."""

_Headers = dict[str, str | list[str]]


class Asset:
    """A constant text and its headers. `make` returns both, in UTF-8. `name` names its files in `folder`."""

    def __init__(self, name: str, make: Callable[[], tuple[bytes, _Headers]], content_type: str, folder: Path) -> None:
        self._name = name
        self._make = make
        self._content_type = content_type
        self._folder = folder / FOLDER

    def respond(self, if_none_match: str | None) -> Response[Any]:
        """Return the asset, or 304 if the caller has it. Raises NotFound if the operator has switched the documentation off."""
        if not settings.API_DOCS:
            raise NotFound("not_found", "This address does not exist.")
        packs = compression.accepts_gzip(app.current_event.headers.get("accept-encoding"))
        tag = f"{self._about['tag']}-gzip" if packs else self._about["tag"]
        headers: _Headers = {"Cache-Control": "public, max-age=300", "Vary": "Accept-Encoding", "ETag": f'"{tag}"'}
        if if_none_match is not None and etags.matches(if_none_match, tag):
            return Response(status_code=304, headers=headers, body="")
        headers.update(self._about["headers"])
        if not packs:
            return Response(200, self._content_type, gzip.decompress(self._packed).decode(), headers)
        response: Response[Any] = Response(
            200, self._content_type, self._encoded, {**headers, "Content-Encoding": "gzip"}
        )
        response.base64_encoded = True  # it is encoded already: Powertools would write bytes of this type as JSON
        return response

    def pack(self, beside: Path) -> None:
        """Make the asset, and write its files for the handlers in a folder."""
        folder = beside / FOLDER
        packed, about = self._made
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self._name}.gz").write_bytes(packed)
        (folder / f"{self._name}.json").write_text(json.dumps(about), encoding="utf-8")

    @functools.cached_property
    def _about(self) -> dict[str, Any]:
        if not self._is_packed:
            return self._made[1]
        about: dict[str, Any] = json.loads(self._file(".json").read_text(encoding="utf-8"))
        return about

    @functools.cached_property
    def _packed(self) -> bytes:
        return self._file(".gz").read_bytes() if self._is_packed else self._made[0]

    @functools.cached_property
    def _encoded(self) -> str:
        return base64.b64encode(self._packed).decode()

    @functools.cached_property
    def _made(self) -> tuple[bytes, dict[str, Any]]:
        text, headers = self._make()
        return gzip.compress(text, mtime=0), {"tag": hashlib.sha256(text).hexdigest()[:32], "headers": headers}

    @functools.cached_property
    def _is_packed(self) -> bool:
        return self._file(".json").exists()

    def _file(self, ending: str) -> Path:
        return self._folder / f"{self._name}{ending}"
