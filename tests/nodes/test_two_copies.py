"""Two copies of the pack in custom_nodes, as a clone beside an install: ComfyUI starts, with the first one's nodes."""

import sys
from pathlib import Path

from devtools.client import object_info
from devtools.environment import ROOT
from devtools.server import PACK_FOLDER, running_server


def test_the_second_copy_stands_aside_with_one_line(host: Path, tmp_path: Path) -> None:
    (tmp_path / "custom_nodes").mkdir()
    (tmp_path / "custom_nodes" / "kv-share-clone").symlink_to(ROOT, target_is_directory=True)
    with running_server(host, Path(sys.executable), tmp_path) as server:
        nodes = object_info(server.url)
        log = server.log.read_text()
    owners = {nodes[name]["python_module"] for name in ("LongVideoSegmenter", "MaskGuidedKVShare")}
    assert len(owners) == 1 and owners <= {"custom_nodes.kv-share-clone", f"custom_nodes.{PACK_FOLDER}"}
    assert log.count("KV Share is in custom_nodes twice") == 1
    assert "Error while calling comfy_entrypoint" not in log
