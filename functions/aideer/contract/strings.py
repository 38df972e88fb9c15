"""What every request body is built from: strict objects and strings that can be stored, shown and sent on.

JSON can say what no text is: half a surrogate pair ("\\ud800") would crash whoever encodes it, so every string has a constraint
(pydantic passes an unconstrained one through unread).
"""

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints
from pydantic_core import PydanticCustomError

from aideer import characters


class Body(BaseModel):
    """A request body: no type is converted into another, and a misspelt field is an error rather than lost."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)  # a password may be among it


def pasted(text: str) -> str:
    """Return a pasted code as it was made: without invisible characters, in ASCII where compatible characters stand for it."""
    shown = "".join(c for c in text if not (characters.BLANK.match(c) or unicodedata.category(c) == "Cf"))
    dashed = "".join("-" if unicodedata.category(c) == "Pd" or c == "\u2212" else c for c in shown)
    return unicodedata.normalize("NFKC", dashed).strip()


def _no_controls(text: str) -> str:
    if characters.CONTROLS.search(text):
        raise PydanticCustomError("control_characters", "Control characters are not allowed.")
    return text


def _one_line(text: str) -> str:
    if characters.breaks_a_line(text):
        raise PydanticCustomError("control_characters", "Line breaks and control characters are not allowed.")
    return text


def _visible(text: str) -> str:
    if characters.has_invisible(text):
        raise PydanticCustomError("control_characters", "Invisible characters are not allowed.")
    return text


def _name(text: str) -> str:
    from aideer import names  # its tables are for the few functions that set a name

    try:
        return names.enforced(text)
    except ValueError:
        raise PydanticCustomError(
            "name_characters", "A name is of letters, digits and ASCII punctuation (RFC 8265), and spaces between them."
        ) from None


Username = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=2, max_length=50),
    AfterValidator(_one_line),
    AfterValidator(_visible),
    AfterValidator(_name),
]
Nickname = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=50), AfterValidator(_one_line)
]
Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=50), AfterValidator(_one_line)]
Description = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255), AfterValidator(_no_controls)
]
Prompt = Annotated[str, StringConstraints(min_length=1), AfterValidator(_no_controls)]
