"""The text of documents: what is read of each type, and that hostile files are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aideer.core.characters import CONTROLS
from aideer.core.errors import Unprocessable
from aideer.uploads import document_text
from aideer.uploads.document_text import DOCX, MOST_BYTES, PDF, TEXT, extract
from tests.documents import make_docx, make_laughs, make_pdf, make_zip_bomb, paragraph


def refusal(file: bytes, decoder: str) -> str:
    with pytest.raises(Unprocessable) as refused:
        extract(file, decoder)
    return refused.value.code


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_a_text_is_read_in_the_encodings_that_people_use(encoding: str) -> None:
    assert extract("你好，鹿。\r\n\r\n\r\n\r\nA deer.  \n".encode(encoding), TEXT) == "你好，鹿。\n\nA deer."


@pytest.mark.parametrize(
    "file", [b"a\0b", b"\xff\xd8\xff\xe0\x00\x10JFIF", b"\x7fELF\x01", "half".encode("utf-16") + b"x", b"\x81"]
)
def test_what_is_no_text_is_refused(file: bytes) -> None:
    assert refusal(file, TEXT) == "wrong_file_type"


@pytest.mark.parametrize("file", [b"", b" \n\t\n", b"\xef\xbb\xbf"])
def test_a_text_without_text_is_refused(file: bytes) -> None:
    assert refusal(file, TEXT) == "document_without_text"


def test_a_text_may_have_so_many_bytes_and_no_more() -> None:
    assert len(extract(b"a" * MOST_BYTES, TEXT)) == MOST_BYTES
    assert refusal(b"a" * (MOST_BYTES + 1), TEXT) == "document_too_long"
    assert refusal(b"a" * (5 * MOST_BYTES), TEXT) == "document_too_long"


def test_a_word_document_gives_what_its_reader_sees() -> None:
    body = (
        paragraph("Deer &amp; moose")
        + "<w:p><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t></w:r></w:p>"
        + "<w:p><w:del><w:r><w:delText>deleted</w:delText></w:r></w:del><w:r><w:instrText>PAGE</w:instrText></w:r></w:p>"
        + f"<w:tbl><w:tr><w:tc>{paragraph('cell')}</w:tc></w:tr></w:tbl>"
        + f"<mc:AlternateContent><mc:Choice>{paragraph('once')}</mc:Choice><mc:Fallback>{paragraph('once')}</mc:Fallback>"
        + "</mc:AlternateContent>"
    )
    assert extract(make_docx(body), DOCX) == "Deer & moose\na\tb\nc\n\ncell\nonce"


def test_a_pdf_gives_the_text_of_its_pages() -> None:
    assert extract(make_pdf("Hello deer", "Page two"), PDF) == "Hello deer\n\nPage two"


@pytest.mark.parametrize(
    ("file", "decoder", "code"),
    [
        (make_laughs(), DOCX, "broken_document"),
        (make_docx(paragraph("x"), before='<!DOCTYPE w SYSTEM "file:///etc/passwd">'), DOCX, "broken_document"),
        (make_docx(paragraph("x"), name="xl/workbook.xml"), DOCX, "wrong_file_type"),
        (make_docx("<w:p>"), DOCX, "broken_document"),
        (b"PK\x03\x04 no archive", DOCX, "wrong_file_type"),
        (make_docx(""), DOCX, "document_without_text"),
        (make_pdf(b""), PDF, "document_without_text"),
        (
            make_pdf("x" * 100, encrypt="/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O (x) /U (x) >>"),
            PDF,
            "document_encrypted",
        ),
        (b"%PDF-1.7\nnothing", PDF, "broken_document"),
        (b"<html></html>", PDF, "wrong_file_type"),
        (make_pdf("a", kids="2 0 R"), PDF, "broken_document"),
    ],
    ids=[
        "laughs",
        "a file of ours",
        "a table",
        "cut",
        "no archive",
        "empty word",
        "a scan",
        "locked",
        "cut pdf",
        "a page",
        "a loop",
    ],
)
def test_a_document_that_cannot_be_used_says_why(file: bytes, decoder: str, code: str) -> None:
    assert refusal(file, decoder) == code


def test_a_zip_bomb_is_read_to_a_limit_alone() -> None:
    assert len(make_zip_bomb()) < 500_000
    assert refusal(make_zip_bomb(), DOCX) == "document_too_complex"
    assert refusal(make_docx(paragraph("ab " * 400_000)), DOCX) == "document_too_long"


def test_a_pdf_of_endless_text_is_read_to_a_limit_alone() -> None:
    content = b"BT /F1 12 Tf 72 720 Td " + b"(deer deer deer deer) Tj " * 40_000 + b"ET"
    assert len(make_pdf(content)) < 50_000
    assert refusal(make_pdf(content), PDF) == "document_too_long"


def test_lack_of_memory_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: bytes) -> str:
        raise MemoryError

    monkeypatch.setitem(document_text._DECODERS, PDF, fail)
    assert refusal(b"", PDF) == "document_too_complex"


@given(
    file=st.binary(max_size=300), decoder=st.sampled_from([TEXT, DOCX, PDF]), head=st.sampled_from([b"", b"%PDF-1.4\n"])
)
def test_any_bytes_are_a_text_or_refused(file: bytes, decoder: str, head: bytes) -> None:
    try:
        text = extract(head + file, decoder)
    except Unprocessable:
        return
    assert text == text.strip()
    assert text
    assert not CONTROLS.search(text)


@given(text=st.text(max_size=200))
def test_any_text_that_is_read_can_be_stored(text: str) -> None:
    cleaned = document_text._clean(text)
    assert not CONTROLS.search(cleaned)
    assert "\n\n\n" not in cleaned
    assert cleaned.encode().decode() == cleaned
