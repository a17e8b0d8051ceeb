"""Mutants: copies of a module with one small change each, which its tests should notice. And those known to survive.

The changes are mutmut's operators. Left out is what no test of behaviour should pin: type annotations and aliases,
decorators, imports, literal text in `raise` statements, `strict` of `zip`, and the arguments of `len`, `isinstance` and
`cast`.
"""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import cast

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, WhitespaceInclusivePositionProvider
from mutmut.mutation.mutators import mutation_operators

MODULE_LEVEL = "<module>"
UNCHANGED_CALLS = frozenset({"len", "isinstance", "cast"})


@dataclass(frozen=True)
class Mutation:
    """What identifies a mutant wherever its line moves to: two of one text in one function count as one."""

    module: str
    """The file, from the root of the repository."""
    function: str
    """The qualified name of the outermost function or method, or of the class when it is outside any, or
    `<module>`."""
    before: str
    """The changed lines as they are, without indentation."""
    after: str
    """The same lines in the mutant; empty where they were removed."""

    def __str__(self) -> str:
        return f"{self.before} => {self.after}"


@dataclass(frozen=True)
class Mutant:
    """One mutant of a module."""

    mutation: Mutation
    line: int
    """Where the change begins."""
    code: str
    """The source of the whole changed module."""
    in_function: bool
    """Whether only the body of a function changes, so that nothing else has to be imported again."""


def mutants_of(file: Path, module: str) -> list[Mutant]:
    """All mutants of a source file in their order, each source once; module: what to call the file."""
    source = file.read_text(encoding="utf-8")
    wrapper = MetadataWrapper(cst.parse_module(source), unsafe_skip_copy=True)
    collector = _Collector(source, module)
    wrapper.visit(collector)
    return list(collector.found.values())


class _Collector(cst.CSTVisitor):
    """Collects the mutants of a module, by their source."""

    METADATA_DEPENDENCIES = (WhitespaceInclusivePositionProvider,)

    def __init__(self, source: str, module: str) -> None:
        super().__init__()
        self.found: dict[str, Mutant] = {}
        self._source = source
        self._module = module
        self._lines = source.splitlines(keepends=True)
        self._around: list[cst.CSTNode] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if self._unchanged(node):
            return False
        for kind, operator in mutation_operators:
            if isinstance(node, kind):
                for changed in operator(node):
                    if not _changes_strict(node, changed):
                        self._add(node, changed)
        self._around.append(node)
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if self._around and self._around[-1] is original_node:
            self._around.pop()

    def _unchanged(self, node: cst.CSTNode) -> bool:
        """Whether nothing in `node` is to change."""
        if isinstance(node, cst.Annotation | cst.Decorator | cst.Import | cst.ImportFrom):
            return True
        if isinstance(node, cst.Call):
            return _called(node) in UNCHANGED_CALLS
        if isinstance(node, cst.Arg):
            return node.keyword is not None and node.keyword.value == "strict"
        if isinstance(node, cst.SimpleString):
            return any(isinstance(outer, cst.Raise) for outer in self._around)
        in_definition = any(isinstance(outer, cst.FunctionDef | cst.ClassDef) for outer in self._around)
        return isinstance(node, cst.Assign) and isinstance(node.value, cst.Subscript) and not in_definition

    def _add(self, node: cst.CSTNode, changed: cst.CSTNode) -> None:
        span = cast(CodeRange, self.get_metadata(WhitespaceInclusivePositionProvider, node))
        start, stop = self._offset(span.start.line, span.start.column), self._offset(span.end.line, span.end.column)
        code = self._source[:start] + cst.Module([]).code_for_node(changed) + self._source[stop:]
        if code == self._source:
            return
        line, before, after = _changed_lines(self._source, code)
        function, in_function = self._place()
        mutation = Mutation(self._module, function, before, after)
        self.found.setdefault(code, Mutant(mutation, line, code, in_function))

    def _offset(self, line: int, column: int) -> int:
        return sum(len(text) for text in self._lines[: line - 1]) + column

    def _place(self) -> tuple[str, bool]:
        """The qualified name of what the visited node is in, and whether that is the body of a function."""
        names: list[str] = []
        for place, outer in enumerate(self._around):
            if isinstance(outer, cst.ClassDef):
                names.append(outer.name.value)
            elif isinstance(outer, cst.FunctionDef):
                names.append(outer.name.value)
                return ".".join(names), outer.body in self._around[place:]
        return ".".join(names) or MODULE_LEVEL, False


def _called(call: cst.Call) -> str:
    return call.func.value if isinstance(call.func, cst.Name) else ""


def _changes_strict(node: cst.CSTNode, changed: cst.CSTNode) -> bool:
    """Whether `changed` is a call of `zip` whose `strict` is not that of `node`."""
    if not (isinstance(node, cst.Call) and isinstance(changed, cst.Call) and _called(node) == "zip"):
        return False
    strict = [[arg for arg in call.args if arg.keyword is not None] for call in (node, changed)]
    return strict[0] != strict[1]


def _changed_lines(source: str, code: str) -> tuple[int, str, str]:
    """The number of the first line that differs, and the lines that do, in both."""
    old, new = source.splitlines(), code.splitlines()
    head = _common(old, new)
    tail = _common(old[head:][::-1], new[head:][::-1])
    before, after = old[head : len(old) - tail], new[head : len(new) - tail]
    return head + 1, _joined(before), _joined(after)


def _joined(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines)


def _common(one: list[str], other: list[str]) -> int:
    """How many lines are the same at the beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def read_survivors(file: Path) -> dict[Mutation, str]:
    """The reasons of the mutants that a file lists as surviving.

    It has tables [[survivors]] with `module`, `function`, `reason` and `mutations`, a list of texts "before => after".
    Raises ValueError when a mutation is listed twice or has no arrow.
    """
    listed: dict[Mutation, str] = {}
    for entry in tomllib.loads(file.read_text(encoding="utf-8"))["survivors"]:
        for mutation in _mutations(entry["module"], entry["function"], entry["mutations"]):
            if mutation in listed:
                raise ValueError(f"{file}: listed twice: {mutation}")
            listed[mutation] = entry["reason"]
    return listed


def _mutations(module: str, function: str, texts: list[str]) -> Iterator[Mutation]:
    for text in texts:
        before, arrow, after = text.partition(" => ")
        if not arrow:
            raise ValueError(f"{module}, {function}: no ' => ' in the mutation {text!r}")
        yield Mutation(module, function, before, after)
