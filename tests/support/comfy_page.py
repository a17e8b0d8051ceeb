"""A page of the host's own frontend in a headless browser."""

import base64
import json
import re
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from devtools.environment import DEV
from devtools.server import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

SCREENSHOTS = DEV / "screenshots"

Mode = Literal["classic", "nodes 2.0"]
MODES: tuple[Mode, ...] = ("classic", "nodes 2.0")
"""How the frontend draws nodes: on a canvas, or as elements of the page."""

FIRST_VISIT = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Workflow.ShowMissingModelsWarning": False,
    "Comfy.Workflow.WarnBlueprintOverwrite": False,
}
"""Settings without which the frontend opens dialogs over the graph."""

LONGEST_WAIT = 180_000
"""How long to wait for anything, in milliseconds; a slow machine is no bug."""

_DROP = """async ([name, text]) => {
    const transfer = new DataTransfer();
    const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
    transfer.items.add(new File([bytes], name, {type: "application/json"}));
    const canvas = window.app.canvas.canvas;
    for (const kind of ["dragover", "drop"]) {
        const options = {dataTransfer: transfer, bubbles: true, cancelable: true, clientX: 700, clientY: 450};
        canvas.dispatchEvent(new DragEvent(kind, options));
    }
}"""

_WITHOUT_MASK = """() => {
    const style = new CSSStyleSheet();
    style.replaceSync(".p-overlay-mask-leave { display: none !important; }");
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, style];
}"""


class ComfyPage:
    """One open tab. `errors`: what the console was told as errors, without what differs from start to start."""

    def __init__(self, page: "Page", server: Server) -> None:
        self.page = page
        self.server = server
        self.errors: list[str] = []
        page.set_default_timeout(LONGEST_WAIT)
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.errors.append(_lasting(str(error))))

    def open(self) -> None:
        """Opens the frontend, or loads it again, and waits until it takes workflows."""
        self.page.goto(self.server.url)
        self.page.wait_for_function("() => window.app?.graph && window.app.extensionManager?.workflow?.activeWorkflow")
        self.page.wait_for_function("() => document.readyState === 'complete'")
        # The mask of the frontend's own loading may stay over the page, when its end falls into a busy moment.
        self.page.evaluate(_WITHOUT_MASK)

    def drop_workflow(self, workflow: Path | dict[str, Any]) -> None:
        """Drops a workflow file on the graph, as from the desktop, and waits until its nodes are there."""
        text = workflow.read_text(encoding="utf-8") if isinstance(workflow, Path) else json.dumps(workflow)
        name = workflow.name if isinstance(workflow, Path) else "workflow.json"
        wanted = sorted(node["type"] for node in json.loads(text)["nodes"])
        self.page.evaluate(_DROP, [name, base64.b64encode(text.encode()).decode()])
        self.page.wait_for_function(
            "wanted => JSON.stringify(window.app.graph._nodes.map((node) => node.type).sort()) === wanted",
            arg=json.dumps(wanted, separators=(",", ":")),
        )

    def look_at(self, node_type: str, scale: float = 1.0) -> None:
        """Brings the first node of a type to the upper left, `scale` times as large as it is."""
        self.page.evaluate(
            """([type, scale]) => {
                const node = window.app.graph._nodes.find((node) => node.type === type);
                const view = window.app.canvas.ds;
                view.scale = scale;
                view.offset[0] = 90 / scale - node.pos[0];
                view.offset[1] = 150 / scale - node.pos[1];
                window.app.canvas.setDirty(true, true);
            }""",
            [node_type, scale],
        )

    def widget_value(self, node_type: str, name: str) -> Any:
        """The value of a widget of the first node of a type."""
        return self.page.evaluate(
            """([type, name]) => window.app.graph._nodes.find((node) => node.type === type)
                .widgets.find((widget) => widget.name === name).value""",
            [node_type, name],
        )

    def set_widget(self, node_type: str, name: str, value: Any) -> None:
        """Sets a widget as if the user had typed the value."""
        self.page.evaluate(
            """([type, name, value]) => {
                const node = window.app.graph._nodes.find((node) => node.type === type);
                const widget = node.widgets.find((widget) => widget.name === name);
                widget.value = value;
                widget.callback?.(value);
            }""",
            [node_type, name, value],
        )

    def saved_workflow(self) -> dict[str, Any]:
        """The workflow JSON as the frontend would save it now."""
        return self.page.evaluate("() => JSON.parse(JSON.stringify(window.app.graph.serialize()))")

    def run(self) -> None:
        """Queues the workflow, as the Run button does."""
        self.page.evaluate("() => window.app.queuePrompt(0, 1)")

    def screenshot(self, name: str) -> None:
        """Keeps a picture of the page in .dev/screenshots."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")

    def _hear(self, message: "ConsoleMessage") -> None:
        if message.type == "error":
            place = message.location.get("url", "")
            self.errors.append(_lasting(f"{message.text.splitlines()[0]} {place}"))


def _lasting(message: str) -> str:
    """Without ports, numbers and names of nodes, which the host's own messages have too."""
    message = re.sub(r"comfy-nodes/\w+/node", "comfy-nodes/NODE/node", message)
    return re.sub(r"\d+", "0", message)


@contextmanager
def comfy_page(
    browser: "Browser",
    server: Server,
    mode: Mode,
    palette: Literal["dark", "light"] = "dark",
    size: Sequence[int] = (1400, 1000),
    touch: bool = False,
) -> Iterator[ComfyPage]:
    """A tab of a new visitor, with the frontend open in it."""
    settings = {**FIRST_VISIT, "Comfy.VueNodes.Enabled": mode == "nodes 2.0", "Comfy.ColorPalette": palette}
    change_settings(server, settings)
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, has_touch=touch)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    try:
        page = ComfyPage(context.new_page(), server)
        page.open()
        yield page
    finally:
        context.close()


def change_settings(server: Server, settings: dict[str, Any]) -> None:
    """Changes settings of the frontend, which the server keeps."""
    data = json.dumps(settings).encode()
    request = urllib.request.Request(f"{server.url}/settings", data, {"Content-Type": "application/json"})
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60).close()
