"""Requests and responses for uploads."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from aideer.schemas.strings import Body, Omitted, require_one_line

UploadKind = Literal["image", "document"]
Status = Literal["pending", "ready", "failed"]


class NewUpload(Body):
    """A file to upload."""

    name: Annotated[
        str,
        StringConstraints(strip_whitespace=True, min_length=1, max_length=255),
        AfterValidator(require_one_line),
        Field(description="The file's name, for people.", examples=["deer.jpg"]),
    ]
    type: Annotated[
        str,
        StringConstraints(min_length=1, max_length=100),
        Field(
            description="An image (image/jpeg, image/png, image/webp, image/gif) or a document: text/plain, text/markdown, "
            "application/pdf, application/vnd.openxmlformats-officedocument.wordprocessingml.document.",
            examples=["image/jpeg"],
        ),
    ]
    size: Annotated[int, Field(ge=1, le=2**53, description="The file's bytes, exactly.")]


class FileResponse(BaseModel):
    """The file that a message shows."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    type: str
    size: int
    width: Annotated[Omitted[int], Field(description="For an image: in pixels, as it is shown.")] = None
    height: Omitted[int] = None
    tokens: Annotated[Omitted[int], Field(description="For a document: the likely input tokens of its text.")] = None


class UploadErrorResponse(BaseModel):
    """The reason for which a file cannot be used."""

    code: str
    message: str


class UploadResponse(FileResponse):
    """An upload. A message names it by its `content`. Without a message, it vanishes at `expires_at`."""

    kind: UploadKind
    content: Annotated[str, Field(description="The content of a message that shows it. The message's type is `kind`.")]
    status: Annotated[Status, Field(description="`ready` once it is verified.")]
    create_time: str
    expires_at: Annotated[Omitted[str], Field(description="Not while a chat uses it.")] = None
    url: Annotated[
        Omitted[str], Field(description="An address of the image, for an `<img>`, until url_expires_at.")
    ] = None
    url_expires_at: Omitted[str] = None
    error: Omitted[UploadErrorResponse] = None


class PostForm(BaseModel):
    """A form to post the file with: all fields, and then the file in the field `file`."""

    url: str
    fields: dict[str, Any]
    expires_at: str


class NewUploadResponse(UploadResponse):
    """An upload that awaits its file."""

    post: PostForm


class FileAddressResponse(FileResponse):
    """An image of a message, with an address of it."""

    url: Annotated[str, Field(description="For an `<img>`, until url_expires_at.")]
    url_expires_at: str
