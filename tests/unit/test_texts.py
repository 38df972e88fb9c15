"""Every text that a reader can see has a Chinese form in functions/aideer/core/chinese.py, and that file has no other.

The tests read the source. They find the `detail` of each error, each `Detail`, the messages of validators, and the tables of texts.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from string import Formatter

import pytest
from pydantic_core import _pydantic_core

from aideer.core import chinese
from aideer.security import limits
from aideer.tasks import control
from local.stack.processes import ROOT

FUNCTIONS = ROOT / "functions"
CATALOGUE = "functions/aideer/core/chinese.py"
BASE = "AideerError"
TABLES: dict[str, list[str]] = {
    "functions/aideer/security/limits.py": [text for _, text in (*limits.REFUSALS.values(), limits.DEFAULT_REFUSAL)],
    "functions/aideer/tasks/control.py": [*control.ERRORS.values(), *control._FORMER_ERRORS.values()],
}
"""Texts in tables, by the module of the table. `Detail(text, …)` with a text that is no constant is allowed there alone."""
HELP = f"""
Replace each …… by the Chinese text. {CATALOGUE} begins with the rules. Keep every {{name}}.
If you do not write Chinese: send the pull request with this test failing, and write "needs Chinese texts" into its description. A
maintainer adds the lines. Do not add an English text or a machine's translation, because no test could find it later."""


@dataclass
class Found:
    """What the source holds."""

    texts: dict[str, str] = field(default_factory=dict)
    """The place of each text, by its template."""
    kinds: dict[str, str] = field(default_factory=dict)
    """The template of a validator's error with values, by its type."""
    faults: list[str] = field(default_factory=list)
    """What no test can read, and what to write instead."""


class Reader(ast.NodeVisitor):
    """Collects the texts of one module."""

    def __init__(self, path: str, tree: ast.Module, errors: dict[str, int | None], found: Found) -> None:
        self._path, self._tree, self._errors, self._found = path, tree, errors, found
        self._scopes: list[ast.AST] = [tree]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._scopes.append(node)
        self.generic_visit(node)
        self._scopes.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if node.name in self._errors:
            for argument, default in _defaults(node):
                if argument == "detail":
                    self._read(default)
        self._scopes.append(node)
        self.generic_visit(node)
        self._scopes.pop()

    def visit_Call(self, node: ast.Call) -> None:
        name = _name(node.func)
        if name == "Detail":
            self._read_detail(node)
        elif name == "PydanticCustomError":
            self._read_validator(node)
        elif (place := self._place_of_text(node, name)) is not None:
            given = [keyword.value for keyword in node.keywords if keyword.arg == "detail"] or node.args[place:][:1]
            for text in given:
                self._read(text)
        self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> None:
        entries = {key.value: value for key, value in zip(node.keys, node.values, strict=True) if _is_text(key)}
        kind = entries.get("type")
        for name in ("detail", "msg"):
            text = entries.get(name)
            if isinstance(text, ast.JoinedStr) or (
                _is_text(text) and not (_is_text(kind) and kind.value in chinese.KINDS)
            ):
                self._read(text)
        self.generic_visit(node)

    def _place_of_text(self, node: ast.Call, name: str) -> int | None:
        """Return the index of the text among the arguments of an error's constructor, or None if this is none."""
        if name in self._errors:
            return self._errors[name]
        match node.func:
            case ast.Attribute(value=ast.Call(func=ast.Name(id="super")), attr="__init__"):
                owner = next((scope for scope in reversed(self._scopes) if isinstance(scope, ast.ClassDef)), None)
                if owner and owner.name in self._errors and owner.name != BASE:
                    return 1
        return None

    def _read(self, text: ast.expr) -> None:
        match text:
            case ast.Constant(value=str(template)):
                self._found.texts.setdefault(template, self._at(text))
            case ast.Call() if _name(text.func) in ("Detail", "restore"):
                pass  # visit_Call reads it, or has read the one that was stored
            case ast.IfExp(body=one, orelse=other):
                self._read(one)
                self._read(other)
            case ast.JoinedStr():
                self._fault(
                    text, f"has values in an f-string. Write {_as_detail(text)}, with Detail of aideer.core.errors"
                )
            case ast.Name(id=name) if name == "detail" and self._is_in_error():
                pass  # handed on
            case ast.Name(id=name) if assigned := list(self._assigned(name)):
                for value in assigned:
                    self._read(value)
            case _:
                self._fault(text, "is no text that a test can read. Write the text here, or Detail(…) with its values")

    def _read_detail(self, node: ast.Call) -> None:
        match node.args:
            case [ast.Constant(value=str(template))]:
                given = {keyword.arg for keyword in node.keywords}
                if given != placeholders(template):
                    self._fault(
                        node, f"gives {sorted(map(str, given))} to a text with {sorted(placeholders(template))}"
                    )
                self._found.texts.setdefault(template, self._at(node))
            case _ if self._path not in TABLES:
                self._fault(node, "needs its text as a constant, or its table in TABLES of tests/unit/test_texts.py")

    def _read_validator(self, node: ast.Call) -> None:
        match node.args:
            case [ast.Constant(value=str(kind)), ast.Constant(value=str(template)), *_] if placeholders(template):
                self._found.kinds[kind] = template
            case [ast.Constant(value=str()), ast.Constant() as text]:
                self._read(text)
            case _:
                self._fault(node, "needs its type and its text as constants; values go into the third argument")

    def _assigned(self, name: str) -> Iterator[ast.expr]:
        for scope in reversed(self._scopes):
            values = [
                node.value
                for node in ast.walk(scope)
                if isinstance(node, ast.Assign) and any(_name(target) == name for target in node.targets)
            ]
            if values:
                yield from values
                return

    def _is_in_error(self) -> bool:
        return any(isinstance(scope, ast.ClassDef) and scope.name in self._errors for scope in self._scopes)

    def _fault(self, node: ast.expr, fault: str) -> None:
        self._found.faults.append(f"{self._at(node)}: {ast.unparse(node)} {fault}.")

    def _at(self, node: ast.expr) -> str:
        return f"{self._path}:{node.lineno}"


def read(sources: dict[str, str]) -> Found:
    """The texts of these modules, by path, and of the tables."""
    trees = {path: ast.parse(text) for path, text in sources.items()}
    errors, found = find_errors(trees.values()), Found()
    for path, tree in trees.items():
        Reader(path, tree, errors, found).visit(tree)
        for text in TABLES.get(path, ()):
            found.texts.setdefault(text, path)
    return found


def find_errors(trees: Iterable[ast.Module]) -> dict[str, int | None]:
    """Where the constructor of each class of errors takes the text, or None if it takes none."""
    classes = {node.name: node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    found: dict[str, int | None] = {}

    def place(name: str) -> int | None:
        names = [argument for argument, _ in _arguments(classes[name])]
        if names:
            return names.index("detail") if "detail" in names else None
        return next((place(base) for base in map(_name, classes[name].bases) if base in classes), None)

    def derives(name: str) -> bool:
        return name == BASE or (name in classes and any(derives(_name(base)) for base in classes[name].bases))

    for name in classes:
        if derives(name):
            found[name] = place(name)
    return found


def placeholders(template: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(template) if name is not None}


def entry(template: str, place: str) -> str:
    """The line to add to the catalogue, after a line with the place of the text."""
    values = "，".join(f"{{{name}}}" for name in sorted(placeholders(template)))
    ending = "。" if template.endswith(".") else ""
    escaped = template.replace('"', '\\"')
    part = Path(place.partition(":")[0]).parent.name
    return f'(in the part of {part}, for {place})\n    "{escaped}": "……{values}{ending}",'


def lacking(found: Found, catalogue: dict[str, str], kinds: dict[str, str]) -> list[str]:
    """What to do so that the catalogues hold what was found and nothing else. Empty if all is well."""
    faults = list(found.faults)
    if new := [entry(template, place) for template, place in found.texts.items() if template not in catalogue]:
        faults.append("\n".join([f"TEXTS of {CATALOGUE} lacks these texts. Add these lines:", *new, HELP]))
    if new := [f'    "{kind}": "……",  # {text}' for kind, text in found.kinds.items() if kind not in kinds]:
        faults.append(
            "\n".join([f"KINDS of {CATALOGUE} lacks these errors of validators. Add these lines:", *new, HELP])
        )
    if old := [f'    "{template}"' for template in catalogue if template not in found.texts]:
        faults.append(
            "\n".join(
                [
                    f"TEXTS of {CATALOGUE} has texts that no code has any more. Remove these lines. If you have only changed the "
                    "English words, replace the old text in the line by the new one:",
                    *old,
                ]
            )
        )
    for template, translated in catalogue.items():
        if placeholders(template) != placeholders(translated):
            names = sorted(placeholders(template))
            faults.append(f'In {CATALOGUE}, the Chinese text of "{template}" must have exactly the values {names}.')
    return faults


def _sources() -> dict[str, str]:
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(FUNCTIONS.glob("**/*.py"))
    }


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _is_text(node: object) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _arguments(node: ast.ClassDef) -> list[tuple[str, ast.expr | None]]:
    """The arguments of a class's own constructor, without self, with their defaults."""
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            names = [argument.arg for argument in statement.args.args[1:]]
            defaults = statement.args.defaults
            return list(zip(names, [*[None] * (len(names) - len(defaults)), *defaults], strict=True))
    return []


def _defaults(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    for name, default in _arguments(node):
        if default is not None:
            yield name, default


def _as_detail(text: ast.JoinedStr) -> str:
    """The call to write in the place of an f-string."""
    template, values = "", []
    for part in text.values:
        if isinstance(part, ast.Constant):
            template += str(part.value)
        elif isinstance(part, ast.FormattedValue):
            name = (_name(part.value) or f"value{len(values) + 1}").lower().lstrip("_")
            template += f"{{{name}}}"
            values.append(f"{name}={ast.unparse(part.value)}")
    return f'Detail("{template}", {", ".join(values)})'


def test_every_text_that_a_reader_can_see_is_in_the_catalogue_and_no_other() -> None:
    if faults := lacking(read(_sources()), chinese.TEXTS, chinese.KINDS):
        pytest.fail("\n\n".join(["", *faults]), pytrace=False)


def test_every_error_of_pydantic_is_in_the_catalogue_and_has_only_its_values() -> None:
    own = read(_sources()).kinds
    known = {error["type"]: error["message_template_python"] for error in _pydantic_core.list_all_errors()} | own
    lacks = sorted(known.keys() - chinese.KINDS)
    assert not lacks, f"KINDS of {CATALOGUE} lacks {lacks}: pydantic has new errors. {HELP}"
    assert not chinese.KINDS.keys() - known, "pydantic has no such errors any more: remove them"
    for kind, text in chinese.KINDS.items():
        assert placeholders(text) <= placeholders(known[kind]) - {"error", "tag"}, kind


# How the source is read


ERRORS = (FUNCTIONS / "aideer" / "core" / "errors.py").read_text(encoding="utf-8")


def found_in(code: str) -> Found:
    return read({"functions/aideer/core/errors.py": ERRORS, "functions/aideer/chats/pins.py": code})


@pytest.mark.parametrize(
    "code",
    [
        'raise Conflict("full", "The text.")',
        'raise errors.Conflict("full", "The text.") from None',
        'def make():\n    return TooManyRequests("full", detail="The text.", retry_after=1)',
        'def make():\n    detail = "The text."\n    return Conflict("full", detail)',
        'raise Conflict("full", "The text." if one else "Another.")',
        'raise Conflict("full", Detail("The text."))',
        'raise PydanticCustomError("full", "The text.")',
        'errors = [{"loc": ("body",), "msg": "The text.", "type": "full"}]',
        'class Full(Conflict):\n    def __init__(self):\n        super().__init__("full", "The text.")',
        'class Full(Conflict):\n    def __init__(self, code="full", detail="The text."):\n        super().__init__(code, detail)',
        'EACH = {60: Detail("The text.")}',
    ],
)
def test_a_text_is_found_however_it_is_written(code: str) -> None:
    found = found_in(code)
    assert "The text." in found.texts
    assert not found.faults


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ('raise Conflict("full", f"At most {settings.MOST}.")', 'Write Detail("At most {most}.", most=settings.MOST)'),
        ('raise Conflict("full", "At most %d." % MOST)', "Write the text here"),
        ('def make(text):\n    return Conflict("full", text)', "Write the text here"),
        ('raise Conflict("full", Detail(text, most=MOST))', "as a constant"),
        ('raise Conflict("full", Detail("At most {most}.", many=MOST))', "gives ['many'] to a text with ['most']"),
        ('raise PydanticCustomError("full", f"At most {MOST}.")', "third argument"),
        ('answer = {"detail": f"At most {MOST}."}', "Write Detail("),
    ],
)
def test_a_text_that_cannot_be_read_is_a_fault_with_advice(code: str, advice: str) -> None:
    [fault] = found_in(code).faults
    assert fault.startswith("functions/aideer/chats/pins.py:")
    assert advice in fault


def test_the_advice_is_the_line_to_add() -> None:
    found = found_in('raise Conflict("full", Detail("You may have {most} pins.", most=MOST))')
    [fault] = lacking(found, dict.fromkeys(found_in("").texts, "。"), chinese.KINDS)[:1]
    assert "(in the part of chats, for functions/aideer/chats/pins.py:1)" in fault
    assert '    "You may have {most} pins.": "……{most}。",' + "\n" in fault
    assert "If you do not write Chinese" in fault


def test_a_text_too_many_and_other_values_are_faults() -> None:
    faults = lacking(Found({"At most {most}.": "here"}), {"At most {most}.": "最多 {many}。", "Gone.": "没有了。"}, {})
    assert len(faults) == 2
    assert '"Gone."' in faults[0]
    assert "exactly the values ['most']" in faults[1]


# How the Chinese is written


CHINESE = "[\u4e00-\u9fff]"
TERMS = {
    r"credits?": "积分",
    r"chats?|conversation": "对话",
    r"presets?": "预设",
    r"administrators?": "管理员",
    r"visitors?": "访客",
    r"passwords?": "密码",
    r"usernames?": "用户名",
    r"models?": "模型",
    r"messages?": "消息",
    r"WeChat": "微信",
    r"batch": "批",
}


def broken_rules(english: str, text: str) -> Iterator[str]:
    """The rules of the catalogue that a Chinese text breaks."""
    bare = re.sub(r"\{each\}", "每天", text)  # a Chinese word itself
    if not re.search(CHINESE, text):
        yield "no Chinese"
    if "你" in text:
        yield "rule 2: 您"
    if re.search(rf"{CHINESE}[,.;:?!()]|[,.;:?!()]{CHINESE}|\.\.\.", bare):
        yield "rule 3: full-width punctuation"
    if text.endswith("。") != (english.endswith(".") or english in chinese.KINDS):
        yield "rule 3: the full stop"
    if re.search(rf"{CHINESE}[A-Za-z0-9{{`]|[A-Za-z0-9}}`]{CHINESE}", bare):
        yield "rule 4: a space is missing"
    if re.search("[，。；：？！（）“”、] | [，。；：？！（）“”、]|  ", text):
        yield "rule 4: a space too many"
    words = re.sub(r"`[^`]*`|\{\w+\}", "", english)
    for term, translated in TERMS.items():
        if re.search(rf"\b(?:{term})\b", words) and translated not in text:
            yield f"rule 6: {term} is {translated}"


def test_the_chinese_texts_follow_the_rules_of_the_catalogue() -> None:
    catalogue = [*chinese.TEXTS.items(), *chinese.KINDS.items()]
    faults = [f"{fault} - {english}: {text}" for english, text in catalogue for fault in broken_rules(english, text)]
    assert not faults, "\n".join([f"The rules are at the beginning of {CATALOGUE}:", *faults])


@pytest.mark.parametrize(
    ("english", "text", "rule"),
    [
        ("Sign in first.", "请你先登录。", "rule 2"),
        ("Sign in first.", "请先登录.", "rule 3"),
        ("Sign in first.", "请先登录", "rule 3"),
        ("At most {most}.", "最多{most} 个。", "rule 4"),
        ("Sign in first.", "抱歉， 请先登录。", "rule 4"),
        ("You have too few credits.", "您的点数不足。", "rule 6"),
        ("Sign in first.", "Sign in first.", "no Chinese"),
    ],
)
def test_a_text_that_breaks_a_rule_is_found(english: str, text: str, rule: str) -> None:
    assert any(fault.startswith(rule) for fault in broken_rules(english, text))
