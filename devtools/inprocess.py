"""Makes ComfyUI and the pack importable in this process, for tests and experiments without a server."""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
PACK = "kv_share"
CORE = "kvshare_core"


def enter_host(host: Path, arguments: Sequence[str] = ()) -> None:
    """Puts `host` first on the module path and starts it with `arguments`, on the CPU where torch sees no CUDA device.

    First, because the host and the pack both have a module `nodes`. Call it before anything imports `comfy`.
    """
    sys.path.insert(0, str(host))
    torch = importlib.import_module("torch")
    importlib.import_module("comfy.options").enable_args_parsing()
    own_arguments = sys.argv
    sys.argv = ["comfyui", *([] if torch.cuda.is_available() else ["--cpu"]), *arguments]
    try:
        importlib.import_module("comfy.cli_args")
    finally:
        sys.argv = own_arguments


def load_pack(root: Path = ROOT) -> None:
    """Lets `import kv_share` load the pack from `root`, as ComfyUI loads it from a folder with a dash in its name.

    `kvshare_core` is then another name for the same modules as `kv_share.kvshare_core`. Nothing is imported yet.
    """
    sys.meta_path.insert(0, _PackFinder(root))


class _PackFinder(MetaPathFinder, Loader):
    def __init__(self, root: Path) -> None:
        self.root = root

    def find_spec(self, fullname: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname == PACK:
            file = self.root / "__init__.py"
            return spec_from_file_location(PACK, file, submodule_search_locations=[str(self.root)])
        if fullname == CORE or fullname.startswith(f"{CORE}."):
            return ModuleSpec(fullname, self)
        return None

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        # The import system takes the module found in sys.modules after this call.
        sys.modules[module.__name__] = importlib.import_module(f"{PACK}.{module.__name__}")
