"""The map of the rooms: every way to break their order is found, and the picture shows what there is."""

import re
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dev
from devtools import map as architecture_map
from devtools.layered_drawing import Box, draw
from devtools.map import END, PAGE, PICTURE, START, Map, Room, page_with, read_map, reduced, rows_of, written

pytestmark = pytest.mark.oldest

ROOMS = (
    Room("kvshare_core", "settings"),
    Room("kvshare_core/bank", "keys"),
    Room("kvshare_core/host", "ComfyUI"),
    Room("nodes", "schemas"),
)
TREE = {
    "kvshare_core/__init__.py": "",
    "kvshare_core/config.py": "import torch\nfrom dataclasses import dataclass\n",
    "kvshare_core/bank/__init__.py": "",
    "kvshare_core/bank/bank.py": "from ..config import KVShareConfig\nfrom . import fp8\n",
    "kvshare_core/bank/fp8.py": "import einops\n",
    "kvshare_core/host/__init__.py": "import comfy.samplers\nfrom kvshare_core.bank import bank\n",
    "nodes/share.py": "import torch\nfrom ..kvshare_core.host import KEY\ndef run(x: torch.Tensor): ...\n",
}


def tree(root: Path, changes: Mapping[str, str | None]) -> Map:
    """The map of a small repository; None in `changes` leaves a file out."""
    for name, text in {**TREE, **changes}.items():
        if text is not None:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return read_map(root, ROOMS)


def test_a_repository_in_order_has_no_faults(tmp_path: Path) -> None:
    found = tree(tmp_path, {})
    assert found.faults() == []
    assert found.arrows() == {
        ("kvshare_core/bank", "kvshare_core"): ["kvshare_core/bank/bank.py"],
        ("kvshare_core/host", "kvshare_core/bank"): ["kvshare_core/host/__init__.py"],
        ("nodes", "kvshare_core/host"): ["nodes/share.py"],
    }


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        (
            "kvshare_core/config.py",
            "from .bank.bank import KeyValueBank",
            "kvshare_core must not import kvshare_core/bank",
        ),
        ("kvshare_core/config.py", "from .bank import bank", "kvshare_core must not import kvshare_core/bank"),
        ("kvshare_core/config.py", "import kvshare_core.bank.bank", "kvshare_core must not import kvshare_core/bank"),
        ("kvshare_core/bank/fp8.py", "def late():\n    from .. import host", "must not import kvshare_core/host"),
        ("kvshare_core/bank/fp8.py", "import comfy.ops", "kvshare_core/bank must not import comfy"),
        ("kvshare_core/bank/fp8.py", "from folder_paths import x", "kvshare_core/bank must not import folder_paths"),
        ("kvshare_core/host/a.py", "from ...nodes.share import run", "no room imports nodes"),
        ("nodes/share.py", "import torch\ntorch.zeros(1)", "nodes/share.py:2: nodes must not use torch"),
        ("nodes/share.py", "from torch import zeros", "nodes/share.py:1: nodes must not use torch"),
        ("nodes/share.py", "import torch as t", "nodes/share.py:1: nodes must not use torch"),
        ("nodes/share.py", "import torch.nn.functional as F", "nodes/share.py:1: nodes must not use torch"),
        ("kvshare_core/cellar/x.py", "", "kvshare_core/cellar/x.py: kvshare_core/cellar is not in ROOMS"),
    ],
)
def test_what_breaks_a_rule_is_named(tmp_path: Path, name: str, text: str, fault: str) -> None:
    faults = tree(tmp_path, {name: text}).faults()
    assert any(fault in line for line in faults), faults


def test_a_room_without_modules_is_named(tmp_path: Path) -> None:
    assert "nodes: in ROOMS, but has no module" in tree(tmp_path, {"nodes/share.py": None}).faults()


# Arrows.

ARROWS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=40).map(
    lambda pairs: sorted({(str(max(pair)), str(min(pair))) for pair in pairs if pair[0] != pair[1]})
)
"""Arrows between the rooms 0 to 9, from a higher number to a lower one."""


def reach(arrows: list[tuple[str, str]]) -> set[tuple[str, str]]:
    """The pairs of rooms that any way along arrows joins."""
    found = set(arrows)
    while more := {(a, d) for a, b in found for c, d in found if b == c} - found:
        found |= more
    return found


@given(ARROWS)
def test_left_out_arrows_are_those_that_others_imply(arrows: list[tuple[str, str]]) -> None:
    kept = reduced(arrows)
    assert reach(kept) == reach(arrows)
    assert all(reach([other for other in kept if other != arrow]) != reach(arrows) for arrow in kept)


def test_a_circle_is_an_error() -> None:
    with pytest.raises(ValueError, match="a circle of imports: "):
        reduced([("a", "b"), ("b", "c"), ("c", "a")])


# The picture and the page.


@given(ARROWS)
def test_the_picture_has_every_box_and_every_arrow_downwards(arrows: list[tuple[str, str]]) -> None:
    rooms = [str(number) for number in range(10)]
    rows = rows_of(rooms, arrows)
    level = {room: number for number, row in enumerate(rows) for room in row}
    assert sorted(level) == rooms
    assert all(level[source] < level[target] for source, target in arrows)
    boxes = [[Box(room, f"<{room}>", "what & where", "core") for room in row] for row in rows]
    text = draw(boxes, arrows)
    assert text == draw(boxes, arrows)
    picture = ElementTree.fromstring(text)
    name = "{http://www.w3.org/2000/svg}"
    assert {found.text for found in picture.findall(f"{name}text")} >= {f"<{room}>" for room in rooms}
    assert len(picture.findall(f"{name}path")) == len(arrows)
    frames = [
        (float(box.get("x") or 0), box.get("y"), float(box.get("width") or 0)) for box in picture.iter(f"{name}rect")
    ]
    for left, y, width in frames[1:]:
        assert left >= 0 and left + width <= frames[0][2]
        assert not any(y == other_y and left < other < left + width for other, other_y, _ in frames[1:])


def test_the_text_is_put_between_the_marks(tmp_path: Path) -> None:
    tree(tmp_path, {})
    (tmp_path / "docs").mkdir()
    (tmp_path / PAGE).write_text(f"before\n{START}\nold\n{END}\nafter\n", encoding="utf-8")
    made = written(tmp_path, ROOMS)
    page = made[tmp_path / PAGE]
    assert page.startswith(f"before\n{START}\n") and page.endswith(f"{END}\nafter\n") and "old" not in page
    assert "4 rooms, 3 arrows" in page and "kvshare_core/bank" in page
    assert page_with(page, "x") != page
    (tmp_path / PAGE).write_text(page, encoding="utf-8")
    assert written(tmp_path, ROOMS) == made
    assert ">bank</text>" in made[tmp_path / PICTURE]


def test_a_page_without_marks_is_an_error() -> None:
    with pytest.raises(ValueError, match=re.escape(START)):
        page_with("nothing", "text")


def test_the_command_says_how_many_and_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tree(tmp_path, {})
    (tmp_path / "docs").mkdir()
    (tmp_path / PAGE).write_text(f"{START}\n{END}\n", encoding="utf-8")
    monkeypatch.setattr(architecture_map, "ROOT", tmp_path)
    monkeypatch.setattr(architecture_map, "ROOMS", ROOMS)
    assert dev.main(["map", "--check"]) == 1
    assert "docs/architecture.svg is out of date" in capsys.readouterr().err
    assert dev.main(["map"]) == 0
    assert capsys.readouterr().out.startswith("4 rooms, 3 arrows")
    assert dev.main(["map", "--check"]) == 0
    (tmp_path / "kvshare_core" / "config.py").write_text("import comfy", encoding="utf-8")
    assert dev.main(["map"]) == 1
    assert "must not import comfy" in capsys.readouterr().err
