"""Reads a document in a child process, which ends when it takes too much time or memory, or crashes.

The child has none of this process's environment, so it has no credentials. It gets the file by its standard input, and answers with
JSON: {"text"} or {"code", "detail"} (of texts.to_stored). It is this module, run as a program.
"""

import contextlib
import json
import os
import subprocess
import sys
from typing import Any

from aideer.core import texts
from aideer.core.errors import Detail, Unprocessable
from aideer.uploads import document_text

SECONDS = 15
"""The most time of a child, in processor time and by the clock. A request has 29 seconds."""
MEMORY_BYTES = 768 * 1024 * 1024
"""The most address space of a child. The function has 1,536 MB."""
_ANSWER_BYTES = 8 * 1024 * 1024


def read(file: bytes, decoder: str) -> str:
    """Return the text of a document. Raises Unprocessable with the reason for which it cannot be used."""
    if decoder == document_text.TEXT:
        return document_text.extract(file, decoder)
    command = [sys.executable, "-X", "utf8", "-m", __name__, decoder]
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        ended = subprocess.run(  # noqa: S603 - Python itself, with a decoder of ours
            command,
            input=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a hostile file causes warnings without end, which this process would have to keep
            env=environment,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise document_text.too_complex() from None
    try:
        answer = json.loads(ended.stdout)
    except ValueError:  # it was killed, or it crashed
        raise document_text.too_complex() from None
    if "text" not in answer:
        raise Unprocessable(answer["code"], Detail.restore(answer["detail"]))
    text: str = answer["text"]
    return text


def main() -> None:
    """Read the document on standard input, and write the answer."""
    _limit()
    try:
        answer: dict[str, Any] = {"text": document_text.extract(sys.stdin.buffer.read(), sys.argv[1])}
    except Unprocessable as error:
        answer = {"code": error.code, "detail": texts.to_stored(error.detail)}
    sys.stdout.write(json.dumps(answer))


def _limit() -> None:
    import resource

    limits = {resource.RLIMIT_CPU: SECONDS, resource.RLIMIT_AS: MEMORY_BYTES, resource.RLIMIT_FSIZE: _ANSWER_BYTES}
    for kind, most in limits.items():
        with contextlib.suppress(ValueError, OSError):  # macOS has no limit of address space
            resource.setrlimit(kind, (most, most))


if __name__ == "__main__":
    main()
