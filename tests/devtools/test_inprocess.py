"""The pack is importable next to the host under one module name."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools import inprocess


@pytest.fixture
def small_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A pack of the same shape, under the pack's names, for one test."""
    files = {
        "__init__.py": "",
        "kvshare_core/__init__.py": "",
        "kvshare_core/inner/__init__.py": "",
        "kvshare_core/inner/leaf.py": "class Leaf: pass",
        "nodes/__init__.py": "from ..kvshare_core.inner.leaf import Leaf",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    for name in list(sys.modules):
        if name.split(".")[0] in (inprocess.PACK, inprocess.CORE):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    known = set(sys.modules)
    inprocess.load_pack(tmp_path)
    yield
    for name in set(sys.modules) - known:
        del sys.modules[name]


@pytest.mark.usefixtures("small_pack")
def test_both_names_give_the_same_modules(host: Path) -> None:
    import kvshare_core.inner.leaf as by_core
    from kv_share import nodes as pack_nodes
    from kv_share.kvshare_core.inner import leaf as by_pack

    assert by_core is by_pack
    assert pack_nodes.Leaf is by_core.Leaf
    assert by_core.__spec__.name == "kv_share.kvshare_core.inner.leaf"


def test_host_modules_come_from_the_host(host: Path) -> None:
    import comfy.cli_args
    import nodes

    assert Path(nodes.__file__).parent == host
    assert Path(comfy.cli_args.__file__).parent == host / "comfy"
