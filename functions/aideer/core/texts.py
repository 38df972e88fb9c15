"""Texts for people, in the language of the reader: English, or Chinese if the request prefers it.

A text is English in the source, where it is made. `translate` finds its Chinese form in chinese.py when it is shown, so stored
data holds codes and no texts. chinese.py and languages.py are imported when a reader first needs them, and cost no cold start.

Log lines stay English: log the text itself, and not its translation.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

accept_language: ContextVar[str | None] = ContextVar("accept_language", default=None)
"""The Accept-Language header of the request that is being answered. http.py and asgi.py set it for each request."""


class Detail(str):
    """An English text with values: Detail("You may have {most} likes.", most=MOST).

    Use it in the place of an f-string, because a translation needs the template and the values apart. A value can be a number, a
    text that needs no translation, a list of such texts, or another Detail.
    """

    template: str
    values: Mapping[str, Any]
    kind: str = ""
    """Pydantic's name for the error, if pydantic has made the text."""

    def __new__(cls, template: str, /, **values: Any) -> "Detail":
        made = super().__new__(cls, template.format(**{name: _join(value, ", ") for name, value in values.items()}))
        made.template, made.values = template, values
        return made

    @classmethod
    def of_kind(cls, kind: str, english: str, values: Mapping[str, Any]) -> "Detail":
        """Return a text that pydantic has made of these values. The catalogue has it by its text, or by pydantic's name for it."""
        made = super().__new__(cls, english)
        made.kind, made.template, made.values = kind, english, values
        return made

    @classmethod
    def restore(cls, stored: Mapping[str, Any]) -> "Detail":
        """Return the text that `to_stored` has turned into data."""
        return cls(stored["text"], **stored["values"])


def to_stored(text: str) -> dict[str, Any]:
    """Return a text as data (JSON), for an item that keeps the reason of a failure for readers of any language."""
    if isinstance(text, Detail):
        return {"text": text.template, "values": dict(text.values)}
    return {"text": text, "values": {}}


def read_language() -> str:
    """Return the language of the request's texts: "en" or "zh"."""
    header = accept_language.get()
    if not header:
        return "en"
    from aideer.core import languages

    return languages.choose(header)


def translate(text: str) -> str:
    """Return a text in the reader's language. A text that the catalogue lacks stays English.

    tests/unit/test_texts.py finds such texts.
    """
    if read_language() == "en":
        return text
    from aideer.core import chinese

    if not isinstance(text, Detail):
        return chinese.TEXTS.get(text, text)
    template = chinese.TEXTS.get(text.template) or chinese.KINDS.get(text.kind)
    try:
        return template.format(**_translate_values(text.values)) if template else text
    except KeyError:  # a refusal without a value of its text must not become an internal error
        return text


def language_headers() -> dict[str, str]:
    """Return the headers of a response with a text for people (RFC 9110, sections 8.5 and 12.5.5)."""
    return {"Content-Language": read_language(), "Vary": "Accept-Language"}


def _translate_values(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: translate(value) if isinstance(value, Detail) else _join(value, "、") for name, value in values.items()
    }


def _join(value: Any, comma: str) -> Any:
    return comma.join(value) if isinstance(value, (list, tuple)) else value
