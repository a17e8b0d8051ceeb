"""The rooms of the pack, which of them import which, and the page that shows it.

A room is a folder of Python modules; the modules right in a folder that has other rooms are a room too. Everything is
read from the source text, so neither the pack nor its environment is needed.
"""

import argparse
import ast
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .layered_drawing import Box, draw

ROOT = Path(__file__).resolve().parents[1]
DOCS = Path("docs")
PAGE = DOCS / "architecture.md"
PICTURE = DOCS / "architecture.svg"
START, END = "<!-- Begin of what `python3 dev.py map` writes -->", "<!-- End of what `python3 dev.py map` writes -->"


@dataclass(frozen=True)
class Room:
    """A folder of modules."""

    path: str
    """From the root of the repository, with slashes."""
    holds: str
    """What is in it, in a few words."""

    @property
    def name(self) -> str:
        """As pictures and messages have it."""
        return self.path.removeprefix("kvshare_core/")


ROOMS = (
    Room("kvshare_core", "settings, words of prompts, devices, plain values for files"),
    Room("kvshare_core/script", "a film as the user writes it: text, JSON, editor"),
    Room("kvshare_core/timeline", "beats and segments, fades, noise, held frames"),
    Room("kvshare_core/record", "what a run found out, for previews and later runs"),
    Room("kvshare_core/bank", "keys and values of source segments, on the GPU or the CPU"),
    Room("kvshare_core/attention", "query groups, parts, log-sum-exp merge, positions"),
    Room("kvshare_core/families", "one file per model family: which attention call is what"),
    Room("kvshare_core/plan", "who shares with whom, in which steps and blocks, in which order"),
    Room("kvshare_core/forward", "one forward of the model and one attention call in it"),
    Room("kvshare_core/subject", "where the subjects are: maps, appearance, masks"),
    Room("kvshare_core/point", "what a chosen point of the video attends to, or every one"),
    Room("kvshare_core/probe", "measures the blocks of a model"),
    Room("kvshare_core/session", "one sampling run: its state and its attention calls"),
    Room("kvshare_core/embedded", "the small models that come with the pack"),
    Room("kvshare_core/embedded/training", "trains those models, from generated videos"),
    Room("kvshare_core/host", "names in ComfyUI's tables, its graph, server and errors"),
    Room("kvshare_core/host/loading", "models, text encoders and VAEs from files"),
    Room("kvshare_core/host/conditioning", "prompts into conditioning, cut to segments"),
    Room("kvshare_core/host/files", "saved runs, presets, the mask viewer's pictures"),
    Room("kvshare_core/host/sampling", "patches the MODEL: segments, attention, memory"),
    Room("kvshare_core/host/workers", "one film over several processes, on Ray"),
    Room("kvshare_core/host/editor", "the plan of a film while the user edits it"),
    Room("nodes", "schemas and tooltips; each node calls the core"),
    Room("devtools", "environment, servers, mutants, this map"),
    Room("bench", "every figure of the documentation by one command"),
)
"""All rooms, from the bottom to the top: a room imports only rooms above it in this list."""

WITHOUT_COMFYUI = tuple(
    room.path
    for room in ROOMS
    if room.path.startswith("kvshare_core") and not room.path.startswith(("kvshare_core/host", "kvshare_core/embedded"))
)
"""Rooms that import the standard library and LIBRARIES only: they can be read and tested without ComfyUI."""

LIBRARIES = frozenset({"torch", "einops"})

TENSOR_ONLY = "nodes"
"""The room that may name the type torch.Tensor and may not compute with torch, and that no other room imports."""

KINDS = {"kvshare_core/host": "host", "kvshare_core/embedded": "embedded", "kvshare_core": "core"}
"""How boxes are coloured, by how the room's path begins; others are `outer`."""


@dataclass(frozen=True)
class Module:
    """One source file and what it imports."""

    path: str
    room: str
    tree: ast.Module
    imports: frozenset[str]
    """Paths of modules of the repository."""
    libraries: frozenset[str]
    """Top-level names of everything else."""


@dataclass(frozen=True)
class Map:
    """The rooms of a repository and their imports."""

    rooms: tuple[Room, ...]
    modules: tuple[Module, ...]

    def arrows(self) -> dict[tuple[str, str], list[str]]:
        """The imports between rooms, as (importing, imported) paths, each with the modules that import."""
        rooms = {module.path: module.room for module in self.modules}
        found: dict[tuple[str, str], list[str]] = {}
        for module in self.modules:
            for target in sorted({rooms[name] for name in module.imports} - {module.room}):
                found.setdefault((module.room, target), []).append(module.path)
        return dict(sorted(found.items()))

    def faults(self) -> list[str]:
        """One line for everything that breaks a rule of the rooms."""
        order = [room.path for room in self.rooms]
        homeless = [
            f"{module.path}: {module.room} is not in ROOMS" for module in self.modules if module.room not in order
        ]
        empty = [f"{path}: in ROOMS, but has no module" for path in order if not self._in(path)]
        if homeless:
            return homeless + empty
        upward = [
            f"{', '.join(modules)}: {source} must not import {target}, which comes after it in ROOMS"
            for (source, target), modules in self.arrows().items()
            if order.index(target) > order.index(source)
        ]
        into_nodes = [
            f"{', '.join(modules)}: no room imports {target}"
            for (_, target), modules in self.arrows().items()
            if target == TENSOR_ONLY
        ]
        return empty + upward + into_nodes + self._foreign_libraries() + self._maths_in_nodes()

    def _in(self, room: str) -> list[Module]:
        return [module for module in self.modules if module.room == room]

    def _foreign_libraries(self) -> list[str]:
        return [
            f"{module.path}: {module.room} must not import {', '.join(sorted(foreign))}"
            for room in WITHOUT_COMFYUI
            for module in self._in(room)
            if (foreign := module.libraries - LIBRARIES - sys.stdlib_module_names)
        ]

    def _maths_in_nodes(self) -> list[str]:
        return [
            f"{module.path}:{line}: {TENSOR_ONLY} must not use torch for anything but the type torch.Tensor"
            for module in self._in(TENSOR_ONLY)
            for line in _uses_of_torch(module.tree)
        ]


def read_map(root: Path | None = None, rooms: Sequence[Room] | None = None) -> Map:
    """The map of the repository at `root`, by default this one.

    Raises SyntaxError for a module that cannot be parsed.
    """
    root, rooms = root or ROOT, rooms or ROOMS
    tops = {room.path.split("/")[0] for room in rooms}
    files = sorted(file for top in tops for file in (root / top).rglob("*.py"))
    paths = {_dotted(file.relative_to(root)): file.relative_to(root).as_posix() for file in files}
    modules: list[Module] = []
    for file in files:
        relative = file.relative_to(root)
        tree = ast.parse(file.read_text(encoding="utf-8"), str(relative))
        names = list(_imported_names(tree, ".".join(relative.parent.parts)))
        found = {name: next((paths[part] for part in _from_longest(name) if part in paths), None) for name in names}
        modules.append(
            Module(
                relative.as_posix(),
                relative.parent.as_posix(),
                tree,
                frozenset(path for path in found.values() if path is not None),
                frozenset(name.split(".")[0] for name, path in found.items() if path is None),
            )
        )
    return Map(tuple(rooms), tuple(modules))


def reduced(arrows: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """`arrows` without those that a longer way along others implies.

    Raises ValueError for arrows that form a circle.
    """
    targets: dict[str, set[str]] = {}
    for source, target in arrows:
        targets.setdefault(source, set()).add(target)
    reach: dict[str, set[str]] = {}

    def reached_from(room: str, on_the_way: tuple[str, ...] = ()) -> set[str]:
        if room in on_the_way:
            raise ValueError("a circle of imports: " + " -> ".join((*on_the_way[on_the_way.index(room) :], room)))
        if room not in reach:
            way = (*on_the_way, room)
            reach[room] = {far for near in targets.get(room, ()) for far in (near, *reached_from(near, way))}
        return reach[room]

    return sorted(
        (source, target)
        for source, nearest in targets.items()
        for target in nearest
        if not any(target in reached_from(other) for other in nearest - {target})
        if target not in reached_from(target)
    )


def rows_of(rooms: Sequence[str], arrows: Sequence[tuple[str, str]]) -> list[list[str]]:
    """The rooms in rows from the top down: each lies in the row below the lowest of those that import it, those that
    no room imports in the top row; `rooms` begin with the lowest."""
    row: dict[str, int] = {}
    for room in reversed(rooms):
        row[room] = 1 + max((row[source] for source, target in arrows if target == room), default=-1)
    return [[room for room in rooms if row[room] == number] for number in range(max(row.values()) + 1)]


def picture_of(found: Map) -> str:
    """The map as an SVG file."""
    arrows = reduced(found.arrows())
    rows = rows_of([room.path for room in found.rooms], arrows)
    rooms = {room.path: room for room in found.rooms}
    boxes = [[Box(path, rooms[path].name, rooms[path].holds, _kind(path)) for path in row] for row in rows]
    return draw(boxes, arrows)


def text_of(found: Map) -> str:
    """What stands between the marks of the page: the picture, its counts, and a table of the rooms."""
    arrows = found.arrows()
    counts = f"{len(found.rooms)} rooms, {len(arrows)} arrows"
    lines = [
        f"![{counts}]({PICTURE.name})",
        "",
        f"{counts}, of which the picture leaves out the {len(arrows) - len(reduced(arrows))} that others imply.",
        "An arrow points from a room to one that it imports.",
        "",
        "| Room | What is in it |",
        "|---|---|",
    ]
    lines += [f"| [`{room.path}`](../{room.path}) | {room.holds} |" for room in reversed(found.rooms)]
    return "\n".join(lines)


def page_with(page: str, text: str) -> str:
    """`page` with `text` between its marks. Raises ValueError for a page that lacks them."""
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"{PAGE} lacks the line {START if not start else END}")
    return f"{before}{START}\n\n{text}\n\n{END}{after}"


def written(root: Path | None = None, rooms: Sequence[Room] | None = None) -> dict[Path, str]:
    """The content that the page and the picture should have. Raises ValueError as `page_with` does."""
    root = root or ROOT
    found = read_map(root, rooms)
    page = (root / PAGE).read_text(encoding="utf-8")
    return {root / PAGE: page_with(page, text_of(found)), root / PICTURE: picture_of(found)}


def main(arguments: Sequence[str]) -> int:
    """Writes the map, or says what is wrong with it; the exit status."""
    parser = argparse.ArgumentParser(prog="dev.py map", description="Draws the rooms of the pack from its imports.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail when the page is out of date")
    options = parser.parse_args(arguments)
    found = read_map()
    faults = found.faults()
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        return 1
    outdated = [path for path, text in written().items() if not path.exists() or path.read_text("utf-8") != text]
    if options.check:
        for path in outdated:
            print(f"{path.relative_to(ROOT)} is out of date; run python3 dev.py map", file=sys.stderr)
        return int(bool(outdated))
    for path, text in written().items():
        path.write_text(text, encoding="utf-8")
    print(f"{len(found.rooms)} rooms, {len(found.arrows())} arrows, all of them downwards: {PAGE}, {PICTURE}")
    return 0


def _kind(path: str) -> str:
    return next((kind for start, kind in KINDS.items() if path.startswith(start)), "outer")


def _dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _from_longest(name: str) -> Iterable[str]:
    """`name` and what is left of it without its last parts."""
    parts = name.split(".")
    return (".".join(parts[:length]) for length in range(len(parts), 0, -1))


def _imported_names(tree: ast.Module, package: str) -> Iterable[str]:
    """Dotted names of all that a module of `package` imports, wherever the statement stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = parents[: len(parents) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _uses_of_torch(tree: ast.Module) -> list[int]:
    """Lines that use torch for anything but the type torch.Tensor."""
    lines: list[int] = []
    allowed = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "Tensor" and isinstance(node.value, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "torch" and id(node) not in allowed:
            lines.append(node.lineno)
        elif isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "torch":
            lines.append(node.lineno)
        elif isinstance(node, ast.Import) and any(
            alias.name.startswith("torch") and (alias.asname or alias.name) != "torch" for alias in node.names
        ):
            lines.append(node.lineno)
    return sorted(lines)
