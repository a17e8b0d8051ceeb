"""The words on the nodes as ComfyUI's `locales` have them. Run as a module it writes the English ones: the schemas'.

python -m devtools.words
"""

import asyncio
import importlib
import json
from pathlib import Path
from typing import Any, cast

from .environment import ROOT, find_host
from .inprocess import PACK, enter_host, load_pack

LOCALES = ROOT / "locales"
NODE_FILE = "nodeDefs.json"

Json = dict[str, Any]


def node_schemas() -> list[Any]:
    """The schemas of all nodes, in the order of the pack. The host has to be entered and the pack to be importable."""
    extension = asyncio.run(importlib.import_module(PACK).comfy_entrypoint())
    return [node.GET_SCHEMA() for node in asyncio.run(extension.get_node_list())]


def node_words(schemas: list[Any]) -> Json:
    """What a nodeDefs.json holds: inputs by their names, outputs by their places."""
    return {
        schema.node_id: {
            "display_name": schema.display_name,
            "description": schema.description,
            "inputs": {item.id: {"name": item.id, "tooltip": item.tooltip} for item in schema.inputs},
            "outputs": {
                str(place): {"name": item.display_name, "tooltip": item.tooltip}
                for place, item in enumerate(schema.outputs)
            },
        }
        for schema in schemas
    }


def locale_file(language: str) -> Path:
    """The words of the nodes in a language, by its code: en, zh, ja."""
    return LOCALES / language / NODE_FILE


def read_words(language: str) -> Json:
    """What the file of a language says."""
    return cast(Json, json.loads(locale_file(language).read_text(encoding="utf-8")))


def main() -> None:
    enter_host(find_host())
    load_pack()
    file = locale_file("en")
    file.parent.mkdir(parents=True, exist_ok=True)
    words = node_words(node_schemas())
    file.write_text(json.dumps(words, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
