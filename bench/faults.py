"""Faults at every boundary of a run and of a file: what stays behind, whether the next run is right, what a user reads.

python -m bench.faults [--json FILE] [--quick]
"""

import argparse
import errno
import gc
import importlib
import logging
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal
from unittest.mock import patch

import torch

from .form import ROOT, Row, make_result, publish, show_progress
from .host_process import start_host

if TYPE_CHECKING:
    from .fault_runs import Run

Fault = Literal["exception", "interrupt", "out of memory", "NaN", "disk full"]

SAMPLING: tuple[Fault, ...] = ("exception", "interrupt", "out of memory")
TENSORS: tuple[Fault, ...] = (*SAMPLING, "NaN")
FILES: tuple[Fault, ...] = ("exception", "interrupt", "disk full")
NAMES_A_NODE = re.compile(r"(Long Video|KV Sharing|Mask-Guided|DiTCtrl|Attention Mask|Load Video)[\w ()-]+: ")


@dataclass(frozen=True)
class Boundary:
    """A function in which something goes wrong: `place` is `module:name` or `module:Class.name`."""

    where: str
    place: str
    run: str
    """The run that reaches it, of bench.fault_runs."""
    faults: tuple[Fault, ...] = SAMPLING
    ours: bool = True
    """Whether it is the pack's, so that its errors name the node."""


HOST = "kvshare_core.host.sampling"
BOUNDARIES: tuple[Boundary, ...] = (
    Boundary("noise of a run", f"{HOST}.outer_sample:arrange_noise", "lockstep", TENSORS),
    Boundary("before a segment", f"{HOST}.segment_call:_evaluate", "lockstep"),
    Boundary("conditioning of a segment", f"{HOST}.segment_handler:slice_conditioning", "lockstep"),
    Boundary("before a forward", "kvshare_core.session.sampling_run:SamplingRun.open_forward", "lockstep"),
    Boundary("inside the model", "comfy.ldm.wan.model:WanAttentionBlock.forward", "lockstep", TENSORS, ours=False),
    Boundary("an attention call", "kvshare_core.session.run_calls:RunCalls.attend", "lockstep"),
    Boundary("storing keys", "kvshare_core.bank.bank:KeyValueBank.put", "lockstep"),
    Boundary("fetching keys", "kvshare_core.bank.bank:KeyValueBank.get", "lockstep"),
    Boundary("copy to system RAM", "kvshare_core.bank.pinned_memory:HostLane.save", "keys away, fp8"),
    Boundary("copy back", "kvshare_core.bank.pinned_memory:HostLane.fetch", "keys away, fp8"),
    Boundary("prefetch", "kvshare_core.bank.bank:KeyValueBank.prefetch", "keys away, fp8"),
    Boundary("to fp8", "kvshare_core.bank.bank:quantise", "keys away, fp8"),
    Boundary("from fp8", "kvshare_core.bank.bank:restore", "keys away, fp8", TENSORS),
    Boundary("moving keys", "kvshare_core.attention.positions:PositionMover.move", "lockstep"),
    Boundary("grouping queries", "kvshare_core.session.call_sharing:sharing_groups", "lockstep"),
    Boundary("attention of a part", "kvshare_core.attention.log_sum_exp:LogSumExpAttention.__call__", "lockstep"),
    Boundary("effect of words", "kvshare_core.subject.hidden_words:HiddenWords.record_effects", "lockstep"),
    Boundary("an attention map", "kvshare_core.subject.map_reader:MapReader.scores", "maps, sources first"),
    Boundary("following looks", "kvshare_core.subject.appearance:likeness", "lockstep", TENSORS),
    Boundary("masks of a pass", "kvshare_core.subject.strategies:ClipMasks.end_pass", "lockstep"),
    Boundary("masks of a block", "kvshare_core.subject.strategies:BlockMasks.end_pass", "paper's order"),
    Boundary("blending", f"{HOST}.packed_latent:Blend.add", "lockstep"),
    Boundary("the blended latent", f"{HOST}.packed_latent:Blend.result", "lockstep", TENSORS),
    Boundary("drift control", f"{HOST}.patch:match_to_anchor", "drift control", TENSORS),
    Boundary("between stages", "kvshare_core.session.sampling_run:SamplingRun.next_stage", "maps, sources first"),
    Boundary("a finished segment", f"{HOST}.chain:Chain.finish", "chain of images"),
    Boundary("an image carried on", "kvshare_core.host.conditioning.carried_image:carry_image", "chain of images"),
    Boundary("the masks found", "kvshare_core.subject.tracker:SubjectTracker.recorded", "lockstep"),
    Boundary("the record", "kvshare_core.record.record:KVShareRecord.put", "lockstep"),
    Boundary("masks of another sampler", "kvshare_core.record.handover:Handover.masks_of", "lockstep"),
    Boundary("a prompt's encoding", "kvshare_core.embedded.clip:WordTextModel.encode_token_weights", "encode"),
    Boundary("writing a film", "safetensors.torch:save_file", "save", FILES),
    Boundary("naming a film's file", "kvshare_core.host.files.run_files:new_file", "save", FILES),
    Boundary("reading a film", "safetensors:safe_open", "load", FILES),
    Boundary("decoding a loop", "kvshare_core.host.conditioning.pictures:_decode", "decode"),
    Boundary("pictures of the masks", "kvshare_core.host.files.viewer:_save_frames", "preview", FILES),
)


@dataclass
class Injected:
    """A function that fails in one of its calls, counted from 0; None for no call."""

    original: Callable[..., Any]
    fail: Callable[[BaseException], None]
    fault: Fault | None = None
    at: int | None = None
    calls: int = 0

    def called(self, *args: Any, **kwargs: Any) -> Any:
        """The function as it is called in place of the original."""
        self.calls += 1
        if self.calls - 1 != self.at:
            return self.original(*args, **kwargs)
        if self.fault == "NaN":
            return torch.full_like(self.original(*args, **kwargs), torch.nan)
        self.fail(_error_of(self.fault))


def _raise(error: BaseException) -> None:
    raise error


def _raise_in(file: str) -> Callable[[BaseException], None]:
    """Raises an error as code in that file does."""
    return FunctionType(_raise.__code__.replace(co_filename=file), globals())


def _error_of(fault: Fault | None) -> BaseException:
    if fault == "interrupt":
        return _interrupt()()
    if fault == "out of memory":
        return torch.OutOfMemoryError("out of memory on purpose")
    if fault == "disk full":
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return RuntimeError("a fault on purpose")


@contextmanager
def injected(boundary: Boundary, fault: Fault | None = None, at: int | None = None) -> Generator[Injected]:
    """Lets one call of the function at a boundary fail."""
    module, _, names = boundary.place.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, name = names.split(".")
    for part in outer:
        owner = getattr(owner, part)
    file = str(ROOT / "kvshare_core" / "boundary.py") if boundary.ours else "of_the_host.py"
    function = Injected(getattr(owner, name), _raise_in(file), fault, at)

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        return function.called(*args, **kwargs)

    with patch.object(owner, name, stand_in):
        yield function


@contextmanager
def keys_may_leave_the_cpu() -> Generator[None]:
    """Takes a CPU for a device with a memory of its own, so that keys and values move where there is no GPU."""
    from kvshare_core.bank.bank import KeyValueBank
    from tests.support.away_bank import AwayBank

    with patch.object(KeyValueBank, "_lane", AwayBank.lane):
        yield


def what_stays() -> tuple[int, int]:
    """Bytes of all tensors that exist, and runs and banks that exist."""
    from kvshare_core.bank.bank import KeyValueBank
    from kvshare_core.session.sampling_run import SamplingRun

    gc.collect()
    objects = gc.get_objects()
    storages = {
        item.untyped_storage().data_ptr(): item.untyped_storage().nbytes()
        for item in objects
        # Not isinstance, which wakes up whatever is lazy among all objects; and no tensors without memory of their own.
        if type(item) in (torch.Tensor, torch.nn.Parameter)
        and item.layout == torch.strided
        and item.device.type != "meta"
    }
    return sum(storages.values()), sum(type(item) in (SamplingRun, KeyValueBank) for item in objects)


def measure_boundary(boundary: Boundary, expected: str) -> list[Row]:
    """One row for each fault at a boundary; expected: what the run gives in a process of its own."""
    from .fault_runs import RUNS, digest

    run = RUNS[boundary.run]()
    with injected(boundary) as counted:
        digest(run())
    assert counted.calls > 0, f"{boundary.run} does not reach {boundary.place}"
    rows: list[Row] = []
    for fault in boundary.faults:
        digest(run())
        if fault == "NaN":
            # Such a run ends well, and the record keeps what the last runs found: once more, it adds nothing.
            _outcome(boundary, fault, counted.calls // 2, run)
        before, files = what_stays(), _files()
        result, reason = _outcome(boundary, fault, counted.calls // 2, run)
        freed = what_stays() == before and _files() == files
        # A fault that changes nothing needs no message; interrupts are the host's to report, NaN raises nothing.
        judged = boundary.ours and fault not in ("interrupt", "NaN") and result != expected
        named = bool(NAMES_A_NODE.search(reason or "")) if judged else None
        rows.append(
            {
                "fault": fault,
                "where": boundary.where,
                "run": boundary.run,
                "inputs": 1,
                "freed": freed,
                "next_run_equal": digest(run()) == expected,
                "error_names_node": named,
                "error": reason,
            }
        )
    return rows


def _outcome(boundary: Boundary, fault: Fault, at: int, run: "Run") -> tuple[str | None, str | None]:
    """What a run with a fault gives, or else what a user reads."""
    from .fault_runs import digest

    with injected(boundary, fault, at):
        try:
            return digest(run()), None
        except (Exception, _interrupt()) as error:
            return None, f"{error}" or type(error).__name__


def _interrupt() -> type[BaseException]:
    """What the host raises when a user interrupts; on newer hosts no Exception."""
    return importlib.import_module("comfy.model_management").InterruptProcessingException


def _files() -> set[Path]:
    folder_paths = importlib.import_module("folder_paths")
    return set(Path(folder_paths.get_output_directory()).rglob("*"))


def fresh_digest(name: str) -> str:
    """What a run gives in a process of its own."""
    command = [sys.executable, "-m", "bench.faults", "--digest", name]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()[-1]


def measure_faults(boundaries: Sequence[Boundary], expected: Callable[[str], str] = fresh_digest) -> list[Row]:
    """Rows of all faults at some boundaries. Call it in a host that runs."""
    digests = {name: expected(name) for name in dict.fromkeys(boundary.run for boundary in boundaries)}
    rows: list[Row] = []
    with keys_may_leave_the_cpu():
        for number, boundary in enumerate(boundaries):
            rows += measure_boundary(boundary, digests[boundary.run])
            show_progress(number + 1, len(boundaries), "boundaries")
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="faults at every boundary of a run and of a file")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--quick", action="store_true", help="three boundaries, to see that it runs")
    parser.add_argument("--digest", help="print what this run gives, and leave")
    options = parser.parse_args()
    host = start_host()
    logging.disable(logging.WARNING)
    folder_paths = importlib.import_module("folder_paths")
    with tempfile.TemporaryDirectory(prefix="kv-share-") as folder:
        folder_paths.set_output_directory(os.path.join(folder, "output"))
        folder_paths.set_temp_directory(os.path.join(folder, "temp"))
        os.makedirs(folder_paths.get_output_directory())
        if options.digest:
            from .fault_runs import RUNS, digest

            with keys_may_leave_the_cpu():
                print(digest(RUNS[options.digest]()()))
            return
        rows = measure_faults(BOUNDARIES[:3] if options.quick else BOUNDARIES)
    publish(make_result("faults", 1, rows, host), options.json)
    if not all(row["freed"] and row["next_run_equal"] and row["error_names_node"] in (True, None) for row in rows):
        raise SystemExit("some faults leave something behind or do not name the node")


if __name__ == "__main__":
    main()
