"""The text of documents: plain text, Markdown, PDF and Word (.docx).

The functions here read hostile files, and Python's readers can need much time and memory for a small one. So only text files are
read in the process of the request. `document_reader.py` runs the others in a child process with limits.

Every error of a reader counts as an error of the sender. The result has no control characters, and at most MOST_BYTES.
"""

import io
import zipfile
from collections.abc import Callable, Iterator

from aideer.core.characters import CONTROLS
from aideer.core.errors import Detail, Unprocessable

MOST_BYTES = 256 * 1024
"""The most bytes of text in UTF-8. It must fit into an item of DynamoDB, which has 400 KB."""
MOST_PAGES = 2_000
MOST_ENTRIES = 5_000
"""The most files in a .docx."""
MOST_XML = 32 * 1024 * 1024
"""The most bytes of a .docx's text with its markup, when it is unpacked."""
_ENCODINGS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
_ENDS_OF_TEXT = str.maketrans("", "", "\x0b\x0c\x1a")
"""Characters of old text files and printers: line and page feeds, and the end of a file of DOS."""
_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_IN_PLACE = {f"{_WORD}tab": "\t", f"{_WORD}br": "\n", f"{_WORD}cr": "\n", f"{_WORD}noBreakHyphen": "-"}


def extract(file: bytes, decoder: str) -> str:
    """Return the text of a document. Raises Unprocessable with the reason for which it cannot be used."""
    try:
        text = _DECODERS[decoder](file)
    except Unprocessable:
        raise
    except (MemoryError, RecursionError):
        raise too_complex() from None
    except Exception:  # a reader may raise any exception on a broken file
        raise Unprocessable("broken_document", "This document cannot be read.") from None
    text = _clean(text)
    if not text:
        raise Unprocessable("document_without_text", "This document has no text. A scan can be uploaded as images.")
    if len(text.encode()) > MOST_BYTES:
        raise _too_long()
    return text


def too_complex() -> Unprocessable:
    """Return the error for a document that takes too much time or memory."""
    return Unprocessable("document_too_complex", "This document takes too much time or memory to read.")


def _read_text(file: bytes) -> str:
    if len(file) > 4 * MOST_BYTES:  # UTF-16 has at most twice the bytes of UTF-8
        raise _too_long()
    encoding = next((name for mark, name in _ENCODINGS.items() if file.startswith(mark)), None)
    for attempt in [encoding] if encoding else ["utf-8", "gb18030"]:
        try:
            text = file.decode(attempt).translate(_ENDS_OF_TEXT)
        except UnicodeDecodeError:
            continue
        if not CONTROLS.search(text):
            return text
    raise Unprocessable("wrong_file_type", "This file is no text in UTF-8, UTF-16 or GB 18030.")


def _read_docx(file: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(file)) as archive:
            if len(archive.infolist()) > MOST_ENTRIES:
                raise too_complex()
            with archive.open("word/document.xml") as document:
                xml = document.read(MOST_XML + 1)  # the size that the archive declares may be a lie
    except (zipfile.BadZipFile, KeyError):
        raise Unprocessable("wrong_file_type", "This file is no Word document (.docx).") from None
    if len(xml) > MOST_XML:
        raise too_complex()
    return _join(_docx_parts(xml))


def _docx_parts(xml: bytes) -> Iterator[str]:
    """Yield the text of a Word document's main part, in its order. Deleted text, fields and fallbacks are left out."""
    from defusedxml import ElementTree

    hidden = 0
    events = ElementTree.iterparse(io.BytesIO(xml), events=("start", "end"), forbid_dtd=True)
    for event, element in events:
        if element.tag == _FALLBACK:
            hidden += 1 if event == "start" else -1
        elif event == "end" and not hidden:
            if element.tag == f"{_WORD}t":
                yield element.text or ""
            elif element.tag == f"{_WORD}p":
                yield "\n"
            else:
                yield _IN_PLACE.get(element.tag, "")
        if event == "end":
            element.clear()


def _read_pdf(file: bytes) -> str:
    from pypdf import PdfReader
    from pypdf.errors import FileNotDecryptedError, PdfReadError, WrongPasswordError

    if b"%PDF-" not in file[:1024]:
        raise Unprocessable("wrong_file_type", "This file is no PDF.")
    try:
        reader = PdfReader(io.BytesIO(file))
        if reader.is_encrypted:
            raise _encrypted()
        if len(reader.pages) > MOST_PAGES:
            raise Unprocessable(
                "document_too_long", Detail("A document can have at most {most} pages.", most=MOST_PAGES)
            )
        return _join(part for page in reader.pages for part in (page.extract_text(), "\n\n"))
    except (FileNotDecryptedError, WrongPasswordError):
        raise _encrypted() from None
    except PdfReadError:
        raise Unprocessable("broken_document", "This PDF cannot be read.") from None


def _join(parts: Iterator[str]) -> str:
    """Return the text of parts. Stops reading at the first part that makes it too long."""
    found: list[str] = []
    size = 0
    for part in parts:
        size += len(part)
        if size > 2 * MOST_BYTES:  # cleaning may shorten it
            raise _too_long()
        found.append(part)
    return "".join(found)


def _clean(text: str) -> str:
    """Return a text without control characters, halves of surrogate pairs, blanks at ends of lines, and runs of empty lines."""
    text = CONTROLS.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).encode("utf-8", "ignore").decode()
    lines: list[str] = []
    for line in (line.rstrip() for line in text.split("\n")):
        if line or (lines and lines[-1]):
            lines.append(line)
    return "\n".join(lines).strip()


def _too_long() -> Unprocessable:
    return Unprocessable(
        "document_too_long", Detail("A document can have at most {most} bytes of text in UTF-8.", most=MOST_BYTES)
    )


def _encrypted() -> Unprocessable:
    return Unprocessable("document_encrypted", "This document is encrypted. Remove its password first.")


TEXT, PDF, DOCX = "text", "pdf", "docx"
_DECODERS: dict[str, Callable[[bytes], str]] = {TEXT: _read_text, PDF: _read_pdf, DOCX: _read_docx}
