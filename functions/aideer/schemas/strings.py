"""The parts of every request body: strict objects, and strings that can be stored, shown and sent on.

JSON can hold strings that are not valid text. For example, half a surrogate pair ("\\ud800") cannot be encoded and would raise an
error later. So every string has a constraint, because pydantic passes an unconstrained string through unread.
"""

import unicodedata
from functools import partial
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError, PydanticKnownError

from aideer.core import characters

_DECOMPOSED = 4
"""A character in NFC may be typed as at most this many characters (UAX #15)."""


T = TypeVar("T")
Omitted = Annotated[T | None, Field(exclude_if=lambda value: value is None)]
"""An optional field that an answer leaves out if it has no value."""


class Body(BaseModel):
    """A request body. No type is converted into another, and an unknown field is an error."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)  # the input may hold a password


def clean_pasted(text: str) -> str:
    """Return a pasted code in its original form: without invisible characters, and in ASCII for characters that stand for ASCII
    ones.
    """
    shown = "".join(c for c in text if not (characters.BLANK.match(c) or unicodedata.category(c) == "Cf"))
    dashed = "".join("-" if unicodedata.category(c) == "Pd" or c == "\u2212" else c for c in shown)
    return unicodedata.normalize("NFKC", dashed).strip()


class NormalizedLength:
    """Bounds of a text's length, counted in NFC (RFC 8265, sections 3.3.2 and 4.2.2)."""

    def __init__(self, least: int, most: int) -> None:
        self._least, self._most = least, most
        bounds = {"minLength": least, "maxLength": most} if least else {"maxLength": most}
        self.schema = WithJsonSchema({"type": "string", **bounds})

    def typed(self, text: str) -> str:
        """Return a text, or raise an error if its length alone shows that it is too long in NFC."""
        if len(text) > self._most * _DECOMPOSED:
            raise PydanticKnownError("string_too_long", {"max_length": self._most})
        return text

    def either(self, text: str) -> str:
        """Return a text, or raise an error if it is too long both as typed and in NFC."""
        return text if len(text) <= self._most else self.normalized(text)

    def normalized(self, text: str) -> str:
        """Return a text as it is, or raise an error if it is too short or too long in NFC."""
        length = len(unicodedata.normalize("NFC", self.typed(text)))
        if length > self._most:
            raise PydanticKnownError("string_too_long", {"max_length": self._most})
        if length < self._least:
            raise PydanticKnownError("string_too_short", {"min_length": self._least})
        return text


def _no_controls(text: str) -> str:
    if characters.CONTROLS.search(text):
        raise PydanticCustomError("control_characters", "Control characters are not allowed.")
    return text


def drop_repeated(texts: list[str]) -> list[str]:
    """Return each text once, in the order of the first ones."""
    return list(dict.fromkeys(texts))


def require_one_line(text: str) -> str:
    if characters.breaks_a_line(text):
        raise PydanticCustomError("control_characters", "Line breaks and control characters are not allowed.")
    return text


def _visible(text: str) -> str:
    if characters.has_invisible(text):
        raise PydanticCustomError("control_characters", "Invisible characters are not allowed.")
    return text


def _name(text: str) -> str:
    from aideer.security import usernames  # imported here, because only functions that set a name need its tables

    try:
        return usernames.enforce(text)
    except ValueError:
        raise PydanticCustomError(
            "name_characters", "A name is of letters, digits and ASCII punctuation (RFC 8265), and spaces between them."
        ) from None


USERNAME_CHARACTERS = (2, 50)
PASSWORD_CHARACTERS = (6, 255)
TAG_CHARACTERS = (1, 32)
"""The least and the most characters."""
_NAME_LENGTH = NormalizedLength(*USERNAME_CHARACTERS)
_TAG_LENGTH = NormalizedLength(*TAG_CHARACTERS)
_NEW_PASSWORD_LENGTH = NormalizedLength(*PASSWORD_CHARACTERS)
_PASSWORD_LENGTH = NormalizedLength(0, 255)

Username = Annotated[
    str,
    StringConstraints(strip_whitespace=True),
    AfterValidator(_NAME_LENGTH.typed),
    AfterValidator(require_one_line),
    AfterValidator(_visible),
    AfterValidator(_name),
    AfterValidator(_NAME_LENGTH.normalized),
    _NAME_LENGTH.schema,
]
PasswordToSet = Annotated[
    str,
    StringConstraints(min_length=0),  # any constraint will do: see the docstring of the module
    AfterValidator(_NEW_PASSWORD_LENGTH.normalized),
    _NEW_PASSWORD_LENGTH.schema,
]
Password = Annotated[
    str, StringConstraints(min_length=0), AfterValidator(_PASSWORD_LENGTH.either), _PASSWORD_LENGTH.schema
]
"""A password to compare. An earlier release limited the length as typed, so either length may fit."""
Nickname = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=50), AfterValidator(require_one_line)
]
Title = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=50), AfterValidator(require_one_line)
]
Tag = Annotated[
    str,
    StringConstraints(strip_whitespace=True),
    AfterValidator(_TAG_LENGTH.typed),
    AfterValidator(require_one_line),
    AfterValidator(partial(unicodedata.normalize, "NFC")),
    AfterValidator(_TAG_LENGTH.normalized),
    _TAG_LENGTH.schema,
]
"""A tag in NFC, so that the same word that two keyboards type is one tag."""
DeviceName = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=50),
    AfterValidator(require_one_line),
    AfterValidator(_visible),
]
Description = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255), AfterValidator(_no_controls)
]
AnnouncementText = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000), AfterValidator(_no_controls)
]
Comment = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000), AfterValidator(_no_controls)
]
Prompt = Annotated[str, StringConstraints(min_length=1), AfterValidator(_no_controls)]
