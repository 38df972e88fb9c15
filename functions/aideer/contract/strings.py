"""What every request body is built from: strict objects and strings that can be stored, shown and sent on.

JSON can say what no text is: half a surrogate pair ("\\ud800") would crash whoever encodes it, so every string has a constraint
(pydantic passes an unconstrained one through unread).
"""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints
from pydantic_core import PydanticCustomError

_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_BREAKS = {"Cc", "Cs", "Zl", "Zp"}
_BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
_DIRECTIONS = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Body(BaseModel):
    """A request body: no type is converted into another, and a misspelt field is an error rather than lost."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)  # a password may be among it


def pasted(text: str) -> str:
    """Return a pasted code as it was made: without invisible characters, in ASCII where compatible characters stand for it."""
    shown = "".join(c for c in text if not (_BLANK.match(c) or unicodedata.category(c) == "Cf"))
    dashed = "".join("-" if unicodedata.category(c) == "Pd" or c == "\u2212" else c for c in shown)
    return unicodedata.normalize("NFKC", dashed).strip()


def _no_controls(text: str) -> str:
    if _CONTROLS.search(text):
        raise PydanticCustomError("control_characters", "Control characters are not allowed.")
    return text


def _one_line(text: str) -> str:
    # Directional overrides could make a name look like another, and turn round the text that follows it.
    if any(unicodedata.category(c) in _BREAKS or c in _DIRECTIONS for c in text):
        raise PydanticCustomError("control_characters", "Line breaks and control characters are not allowed.")
    return text


def _visible(text: str) -> str:
    # _BLANK: letters and marks that show nothing (Default_Ignorable_Code_Point, and the empty Braille pattern): with one of them a
    # name would be another's twin. Names alone do without; emoji are made of joiners and variation selectors.
    if _BLANK.search(text) or any(unicodedata.category(c)[0] == "C" for c in text):
        raise PydanticCustomError("control_characters", "Invisible characters are not allowed.")
    return text


Username = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=2, max_length=50),
    AfterValidator(_one_line),
    AfterValidator(_visible),
]
Nickname = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=50), AfterValidator(_one_line)
]
Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=50), AfterValidator(_one_line)]
Description = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255), AfterValidator(_no_controls)
]
Prompt = Annotated[str, StringConstraints(min_length=1), AfterValidator(_no_controls)]
