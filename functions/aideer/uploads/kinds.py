"""The kinds of files that a message can show, by their media types, and their limits."""

from typing import NamedTuple

from aideer.core.errors import Detail, TooLarge, UnsupportedMediaType
from aideer.schemas.uploads import UploadKind

IMAGE: UploadKind = "image"
DOCUMENT: UploadKind = "document"


class FileType(NamedTuple):
    """A kind of file, and the name of the decoder that reads it."""

    kind: UploadKind
    decoder: str


TYPES = {
    "image/jpeg": FileType(IMAGE, "JPEG"),
    "image/png": FileType(IMAGE, "PNG"),
    "image/webp": FileType(IMAGE, "WEBP"),
    "image/gif": FileType(IMAGE, "GIF"),
    "text/plain": FileType(DOCUMENT, "text"),
    "text/markdown": FileType(DOCUMENT, "text"),
    "application/pdf": FileType(DOCUMENT, "pdf"),
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": FileType(DOCUMENT, "docx"),
}
"""The types of files that can be uploaded."""
MOST_BYTES = 10 * 1024 * 1024
"""The most bytes of a file. The photo of a phone has 3 to 8 MB."""


def require(media_type: str, size: int) -> FileType:
    """Return the kind of a file that a user wants to upload. Raises UnsupportedMediaType and TooLarge."""
    found = TYPES.get(media_type)
    if found is None:
        raise UnsupportedMediaType("unsupported_upload", Detail("A file must be one of {types}.", types=list(TYPES)))
    if size > MOST_BYTES:
        raise TooLarge("file_too_large", Detail("A file can have at most {most} bytes.", most=MOST_BYTES))
    return found
