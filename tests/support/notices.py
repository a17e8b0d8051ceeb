"""Everything that a run can say of itself, read from the calls in its source that say it, with values put in."""

import ast
import importlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import product
from types import FunctionType, ModuleType

from devtools.environment import ROOT
from kvshare_core.session.neighbours import Neighbours

ROOMS = ("host/sampling", "session", "subject", "forward", "families", "plan", "point", "record", "bank", "attention")
"""Rooms of the core from which a run takes its words."""

SAYERS = {"warn": 0, "_warn": 0, "warn_once": 0, "explain": 0, "leave_conditioning": 0, "notices": 0, "Outcome": 5}
"""Functions to which a notice is given, with its place among their arguments; Outcome has it under a name too."""

NAMED = "sentence"
UNEXPECTED = "UnexpectedCallError"

OTHERS = (Neighbours(), Neighbours(others=("KJNodes",)), Neighbours(others=("KJNodes", "ModelTrio")))
CACHES = (*OTHERS, Neighbours(caches=("TeaCache",)), Neighbours(caches=("MagCache", "TeaCache")))

VALUES: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(("self.info.family", "self._settings.info.family"), ("wan",)),
    **dict.fromkeys(("left[0]", "names[0]"), ("TeaCache",)),
    **dict.fromkeys(("' and '.join(left)", "' and '.join(names)"), ("MagCache and TeaCache",)),
    "self._settings.neighbours.cache": [one.cache for one in CACHES],
    "who[0].upper()": ("A",),
    "who[1:]": [one.other[1:] for one in OTHERS],
    "queries": ("video", "audio"),
    "keys": ("text", "audio"),
    "name": ("text", "audio"),
    "kind": ("text", "video"),
    "role": ("query", "key"),
    "counts": ("98 + 99",),
    "' + '.join(parts)": ("text + video",),
}
"""What may stand in place of an expression, by its text."""

NUMBERS = (
    "after",
    "attention.dim_head",
    "before",
    "call.key_tokens",
    "call.query.shape[-1]",
    "call.query.shape[0]",
    "call.query_tokens",
    "context.forward.segment.beat + 1",
    "count",
    "found",
    "key_tokens",
    "least",
    "len(args)",
    "len(planned - unshared)",
    "len(planned)",
    "len(short)",
    "number",
    "query_tokens",
    "rows",
    "segment.index + 1",
    "start",
    "stop - start",
    "text_tokens",
    "tokens",
    "video_tokens",
    "wanted",
    "window.segment.beat + 1",
    "AUDIO_TOKENS",
)
"""Expressions that are numbers, each of which gets one of its own."""

FIRST_NUMBER = 100

ARGUMENTS = {("leave_unread", "what"): ("kvshare_core.host.sampling.attention_override", "_unknown_in")}
"""What returns the text that a function, by its name and the argument's, is given; by module and name."""


def all_notices() -> list[str]:
    """The notices of a run. Raises LookupError for an expression in one that VALUES and NUMBERS do not name."""
    found = [text for room in ROOMS for source in _sources(room) for text in source.said()]
    return list(dict.fromkeys(found))


def _sources(room: str) -> Iterator["_Source"]:
    for file in sorted((ROOT / "kvshare_core" / room).glob("*.py")):
        name = "" if file.stem == "__init__" else f".{file.stem}"
        yield _source(f"kvshare_core.{room.replace('/', '.')}{name}")


@cache
def _source(name: str) -> "_Source":
    return _Source(importlib.import_module(name))


@cache
def _unexpected(again: bool) -> list[str]:
    """The messages of errors about calls that are not a family's; again: of those made from another one."""
    return [text for room in ROOMS for source in _sources(room) for text in source.raised(UNEXPECTED, again)]


class _Source:
    """One module, in which what an expression may be as a text is found."""

    def __init__(self, module: ModuleType) -> None:
        assert module.__file__ is not None
        with open(module.__file__, encoding="utf-8") as file:
            self._tree = ast.parse(file.read())
        self._module = module
        self._above = {child: node for node in ast.walk(self._tree) for child in ast.iter_child_nodes(node)}

    def said(self) -> Iterator[str]:
        """What this module gives to SAYERS, without what it only passes on."""
        for call in self._calls():
            place = SAYERS.get(_name_of(call.func))
            if place is None:
                continue
            named = [one.value for one in call.keywords if one.arg == NAMED]
            for message in named or call.args[place : place + 1]:
                if not self._passes_on(message):
                    yield from self._texts(message)

    def raised(self, error: str, again: bool = False) -> Iterator[str]:
        """The messages of errors that are made here; again: where another error is handled."""
        for call in self._calls():
            if _name_of(call.func) == error and (self._handler_of(call) is not None) == again:
                yield from self._texts(call.args[0])

    def returned(self, function: str) -> list[str]:
        """What a function returns."""
        defined = (node for node in ast.walk(self._tree) if isinstance(node, ast.FunctionDef))
        (found,) = (node for node in defined if node.name == function)
        returns = (node.value for node in ast.walk(found) if isinstance(node, ast.Return))
        return [text for value in returns if value is not None for text in self._texts(value)]

    def _calls(self) -> Iterator[ast.Call]:
        return (node for node in ast.walk(self._tree) if isinstance(node, ast.Call))

    def _passes_on(self, message: ast.expr) -> bool:
        """Whether a message is an argument of a function that is one of SAYERS itself, or one that is collected where
        it is made."""
        if isinstance(message, ast.Attribute):
            return message.attr == NAMED
        inside = next(self._functions_around(message), None)
        is_sayer = inside is not None and (inside.name in SAYERS or inside.name == "__call__")
        return is_sayer and isinstance(message, ast.Name) and message.id in _parameters(inside)

    def _functions_around(self, node: ast.AST) -> Iterator[ast.FunctionDef]:
        while node in self._above:
            node = self._above[node]
            if isinstance(node, ast.FunctionDef):
                yield node

    def _handler_of(self, node: ast.AST) -> ast.ExceptHandler | None:
        """The innermost handler of an error around an expression."""
        while node in self._above and not isinstance(node, ast.ExceptHandler):
            node = self._above[node]
        return node if isinstance(node, ast.ExceptHandler) else None

    def _texts(self, node: ast.expr) -> list[str]:
        """What an expression may be; nothing for None."""
        text = ast.unparse(node)
        if text in VALUES:
            return list(VALUES[text])
        if text in NUMBERS:
            return [str(FIRST_NUMBER + NUMBERS.index(text))]
        match node:
            case ast.Constant(value=value):
                return [] if value is None else [str(value)]
            case ast.FormattedValue(value=value):
                return self._texts(value)
            case ast.JoinedStr(values=values):
                return ["".join(parts) for parts in product(*map(self._texts, values))]
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return ["".join(parts) for parts in product(self._texts(left), self._texts(right))]
            case ast.IfExp(body=body, orelse=orelse):
                return self._texts(body) + self._texts(orelse)
            case ast.Subscript(value=ast.Dict(values=values)):
                return [text for value in values for text in self._texts(value)]
            case ast.Name():
                return self._named(node)
            case ast.Call():
                return self._result(node)
            case _:
                raise LookupError(f"{self._module.__name__}: what text is {ast.unparse(node)}?")

    def _result(self, call: ast.Call) -> list[str]:
        """What a call may return: a filled pattern, or what a function of the pack does."""
        name = _name_of(call.func)
        if isinstance(call.func, ast.Attribute) and name == "format":
            (pattern,) = self._texts(call.func.value)
            values = [[(one.arg or "", text) for text in self._texts(one.value)] for one in call.keywords]
            return [pattern.format(**dict(one)) for one in product(*values)]
        function = vars(self._module).get(name)
        if isinstance(function, FunctionType):
            return _source(function.__module__).returned(name)
        return self.returned(name)

    def _named(self, node: ast.Name) -> list[str]:
        """What a name may be: what is assigned to it, an argument, an error's message, or a constant."""
        for function in self._functions_around(node):
            found = self._assigned(function, node.id)
            if found is not None:
                return found
            if _parameters(function).get(node.id) == UNEXPECTED:
                return _unexpected(again=True)
            if (function.name, node.id) in ARGUMENTS:
                module, maker = ARGUMENTS[function.name, node.id]
                return _source(module).returned(maker)
        handler = self._handler_of(node)
        if handler is not None and handler.name == node.id and handler.type is not None:
            error = ast.unparse(handler.type)
            return _unexpected(again=False) if error == UNEXPECTED else list(self.raised(error))
        constant = vars(self._module).get(node.id)
        if isinstance(constant, str):
            return [constant]
        raise LookupError(f"{self._module.__name__}: what text is {node.id}?")

    def _assigned(self, function: ast.FunctionDef, name: str) -> list[str] | None:
        """What is assigned to a name in a function, then added to it; None if nothing is."""
        begins, ends = list[str](), [""]
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and name in map(ast.unparse, node.targets):
                begins += self._texts(node.value)
            elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) and node.target.id == name:
                ends = self._texts(node.value)
        return [begin + end for begin, end in product(begins, ends)] if begins else None


def _name_of(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _parameters(function: ast.FunctionDef) -> dict[str, str]:
    """The parameters of a function, each with its annotation."""
    return {one.arg: "" if one.annotation is None else ast.unparse(one.annotation) for one in function.args.args}
