"""A user of the host's frontend who is counted: every click, drag and key, and the seconds that they wait. What a busy
page loses is done again, and counted once."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.comfy_page import ComfyPage, Mode

TRIES, PATIENCE, LOOK_AGAIN = 5, 4000, 100
"""How often a key or a click is tried, and the milliseconds for each and between looks."""

PLACE = """([type, side, name]) => {
    const node = window.app.graph._nodes.find((one) => one.type === type);
    const slots = side === "in" ? node.inputs : node.outputs;
    const number = slots.findIndex((slot) => slot.name === name);
    const drawn = document.querySelector(`[data-slot-key="${node.id}-${side}-${number}"]`);
    if (drawn) {
        const box = drawn.getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2];
    }
    const [x, y] = side === "in" ? node.getInputPos(number) : node.getOutputPos(number);
    const {scale, offset} = window.app.canvas.ds;
    const page = window.app.canvas.canvas.getBoundingClientRect();
    return [page.x + (x + offset[0]) * scale, page.y + (y + offset[1]) * scale];
}"""

WIDGET = """([type, name]) => {
    const node = window.app.graph._nodes.find((one) => one.type === type);
    const widget = node.widgets.find((one) => one.name === name);
    const {scale, offset} = window.app.canvas.ds;
    const page = window.app.canvas.canvas.getBoundingClientRect();
    const [x, y] = [node.pos[0] + node.size[0] / 2, node.pos[1] + widget.y + 10];
    return [page.x + (x + offset[0]) * scale, page.y + (y + offset[1]) * scale];
}"""

LISTED = """() => {
    // What is listed no longer changes.
    const now = [...document.querySelectorAll("[role=option]")].map((one) => one.textContent).join("|");
    const before = window.kvsListed;
    window.kvsListed = now;
    return now !== "" && now === before && (window.kvsSame = (window.kvsSame ?? 0) + 1) > 30 && !(window.kvsSame = 0);
}"""

NODES = "type => window.app.graph._nodes.filter((one) => one.type === type).length"

EMPTY = """async ([scale, x, y]) => {
    // As long as the setting allows: on a busy machine the page sees two clicks late.
    await window.app.extensionManager.setting.set("Comfy.Pointer.DoubleClickTime", 1000);
    window.app.graph.clear();
    Object.assign(window.app.canvas.ds, {scale});
    window.app.canvas.ds.offset[0] = x;
    window.app.canvas.ds.offset[1] = y;
    window.app.canvas.setDirty(true, true);
}"""


@dataclass
class User:
    """What a user does in a page, with what it takes."""

    page: ComfyPage
    mode: Mode
    clicks: int = 0
    drags: int = 0
    keys: int = 0
    begun: float = field(default_factory=time.monotonic)

    def empty_canvas(self, scale: float = 0.7) -> None:
        """Begins with nothing on the canvas."""
        self.page.page.evaluate(EMPTY, [scale, 120, 160])
        self.begun = time.monotonic()

    def click(self, target: Any) -> None:
        """A click on an element."""
        target.click()
        self.clicks += 1

    def type(self, text: str) -> None:
        """Types into what has the focus."""
        self.page.page.keyboard.type(text)
        self.keys += len(text)

    def press(self, key: str, times: int = 1) -> None:
        """Presses a key, or several together."""
        for _ in range(times):
            self.page.page.keyboard.press(key)
            self.keys += 1

    def add(self, words: str, name: str, node_type: str, x: float, y: float) -> None:
        """Searches for a node with a double click on the canvas, takes the result of that name and puts it there."""
        page = self.page.page
        before, clicks, keys = page.evaluate(NODES, node_type), self.clicks, self.keys
        for _ in range(TRIES):
            self.clicks, self.keys = clicks, keys
            self.open_search(x, y)
            self.type(words)
            self.click(page.get_by_role("option").filter(has_text=name).first)
            if self._waits_for(lambda: page.evaluate(NODES, node_type) > before, 10 * PATIENCE):
                # Newer frontends let a new node follow the mouse until the next click.
                page.mouse.move(x, y, steps=3)
                page.mouse.click(x, y)
                self.clicks += 1
                return
            self.press("Escape", 2)
        raise AssertionError(f"the search adds no {name}")

    def found(self, words: str, x: float, y: float) -> list[str]:
        """What the search lists, first to last."""
        page = self.page.page
        self.open_search(x, y)
        self.type(words)
        page.wait_for_function(LISTED)
        texts = page.get_by_role("option").all_inner_texts()
        self.press("Escape", 2)
        return texts

    def open_search(self, x: float, y: float) -> None:
        """Double clicks on the canvas until the search is there."""
        self._double_click(lambda: (x, y), "input:focus")

    def connect(self, source: tuple[str, str], target: tuple[str, str]) -> None:
        """Drags a link from an output to an input, each given by its node's type and its name."""
        mouse = self.page.page.mouse
        start = self.page.page.evaluate(PLACE, [source[0], "out", source[1]])
        stop = self.page.page.evaluate(PLACE, [target[0], "in", target[1]])
        mouse.move(*start)
        mouse.down()
        mouse.move((start[0] + stop[0]) / 2, (start[1] + stop[1]) / 2, steps=4)
        mouse.move(*stop, steps=4)
        mouse.up()
        self.drags += 1

    def open_file(self, file: Path) -> None:
        """Opens a workflow by its name in the system's file chooser; a page that is not ready loses the first key."""
        page = self.page.page
        opened: list[Any] = []
        page.on("filechooser", lambda chooser: opened.append(chooser))
        for _ in range(TRIES):
            self.press("Control+o")
            if self._waits_for(lambda: bool(opened)):
                opened[0].set_files(file)
                self.keys += len(file.name) + 1
                return
        raise AssertionError("no file chooser opens")

    def text_field(self, node_type: str) -> Any:
        """The first text field of a node, wherever the frontend puts it."""
        page = self.page.page
        number = page.evaluate("type => window.app.graph._nodes.find((one) => one.type === type).id", node_type)
        inside = page.locator(f'[data-node-id="{number}"] textarea')
        return (inside if inside.count() else page.locator("textarea.comfy-multiline-input")).first

    def set_number(self, node_type: str, name: str, value: float) -> None:
        """Types a number into a widget."""
        page = self.page.page
        if self.mode == "classic":
            self._double_click(lambda: page.evaluate(WIDGET, [node_type, name]), ".graphdialog input")
            page.locator(".graphdialog input").last.focus()
        else:
            number = page.evaluate("type => window.app.graph._nodes.find((one) => one.type === type).id", node_type)
            rows = page.locator(f'[data-node-id="{number}"] .lg-node-widget')
            box = rows.filter(has_text=name).locator("input").last.bounding_box()
            # An area for dragging the number lies on its field.
            page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            self.clicks += 1
        self.press("Control+a")
        self.type(f"{value:g}")
        self.press("Enter")

    def drag_edge(self, target: Any, right: float) -> None:
        """Drags the right edge of an element."""
        box, mouse = target.bounding_box(), self.page.page.mouse
        x, y = box["x"] + box["width"] - 3, box["y"] + box["height"] / 2
        mouse.move(x, y)
        mouse.down()
        mouse.move(x + right, y, steps=6)
        mouse.up()
        self.drags += 1

    def _double_click(self, place: Callable[[], Sequence[float]], opens: str) -> None:
        """Double clicks until something opens: a busy page takes a slow double click for two clicks."""
        page = self.page.page
        for _ in range(TRIES):
            page.mouse.dblclick(*place())
            if self._waits_for(lambda: page.locator(opens).count() > 0):
                self.clicks += 2
                return
        raise AssertionError(f"no double click opens {opens}")

    def _waits_for(self, seen: Callable[[], bool], patience: int = PATIENCE) -> bool:
        """Whether something is to be seen within so many milliseconds."""
        for _ in range(patience // LOOK_AGAIN):
            self.page.page.wait_for_timeout(LOOK_AGAIN)
            if seen():
                return True
        return False

    def told(self) -> dict[str, float]:
        """What it took."""
        return {
            "clicks": self.clicks,
            "drags": self.drags,
            "keys": self.keys,
            "seconds": round(time.monotonic() - self.begun, 1),
        }
