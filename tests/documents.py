"""Documents of tests: PDF and Word files as small programs write them, and hostile ones."""

import io
import zipfile
import zlib

WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PDF = "application/pdf"
_W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_MC = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'


def make_docx(body: str, before: str = "", name: str = "word/document.xml") -> bytes:
    """A Word document with this XML in its body. `before` stands before the root element."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr(
            name, f'<?xml version="1.0"?>{before}<w:document {_W} {_MC}><w:body>{body}</w:body></w:document>'
        )
    return held.getvalue()


def paragraph(text: str) -> str:
    """A paragraph of a Word document."""
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def make_pdf(*pages: bytes | str, encrypt: str = "", kids: str = "") -> bytes:
    """A PDF of pages: a page's text, or the bytes of its content stream. `kids` replaces the list of pages."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", ""]
    contents = [p if isinstance(p, bytes) else f"BT /F1 12 Tf 72 720 Td ({p}) Tj ET".encode() for p in pages]
    numbers = []
    streams: dict[int, bytes] = {}
    font = 3
    objects.append("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    for content in contents:
        packed = zlib.compress(content)
        objects.append(f"<< /Length {len(packed)} /Filter /FlateDecode >>")
        streams[len(objects)] = packed
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {len(objects)} 0 R "
            f"/Resources << /Font << /F1 {font} 0 R >> >> >>"
        )
        numbers.append(len(objects))
    listed = kids or " ".join(f"{number} 0 R" for number in numbers)
    objects[1] = f"<< /Type /Pages /Count {max(len(numbers), 1)} /Kids [{listed}] >>"
    written, offsets = io.BytesIO(b""), []
    written.write(b"%PDF-1.7\n")
    for number, text in enumerate(objects, 1):
        offsets.append(written.tell())
        written.write(f"{number} 0 obj\n{text}\n".encode())
        if number in streams:
            written.write(b"stream\n" + streams[number] + b"\nendstream\n")
        written.write(b"endobj\n")
    start = written.tell()
    written.write(f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode())
    for offset in offsets:
        written.write(f"{offset:010} 00000 n \n".encode())
    written.write(
        f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R {encrypt} >>\nstartxref\n{start}\n%%EOF\n".encode()
    )
    return written.getvalue()


def make_laughs() -> bytes:
    """A Word document whose XML defines entities that grow by the power of ten."""
    entities = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    return make_docx(paragraph("&a9;"), before=f'<!DOCTYPE w [<!ENTITY a0 "ha">{entities}]>')


def make_zip_bomb() -> bytes:
    """A Word document whose text has 100 MB when it is unpacked."""
    return make_docx(paragraph("a" * 100_000_000))
