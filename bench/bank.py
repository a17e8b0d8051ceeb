"""What the key/value bank was said to hold and what it held, what 8 bits cost, and how much of the way back it hides.

python -m bench.bank [--steps 8] [--seed 0] [--json FILE] [--quick]
"""

import argparse
import itertools
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import torch
from torch.nn.functional import scaled_dot_product_attention as attention

from kvshare_core.bank.bank import BankEntry, BankKey, KeyValueBank, StoredTokens
from kvshare_core.config import KVShareConfig, MemorySettings, Sources, StoreDtype
from kvshare_core.embedded.scenes import FRAME_SIDE
from kvshare_core.plan.bank_size import TokenCounts, entry_bytes
from kvshare_core.session.sampling_run import SamplingRun

from .form import Row, make_result, publish, show_progress
from .methods import SHARING, Method
from .pipeline import Pipeline, load_pipeline

PROMPTS = ("a circle moving right over night", "a circle moving up over night", "a circle moving left over sand")
SUBJECT = "circle"
OVERLAP = 2
STEPS = 8
QUICK_STEPS = 2
GUIDANCES = ("nothing", "mask", "words")
MASK_SPAN = slice(16, 64)
"""Rows and columns of the picture that the fixed mask covers: half of either side, a quarter of the picture."""
COLUMNS = (
    "case",
    "sources",
    "guidance",
    "background",
    "dtype",
    "prediction",
    "predicted_mib",
    "held_mib",
    "held_over_predicted",
    "key_error",
    "value_error",
    "psnr_to_model",
    "device",
    "forward_ms",
    "hidden_share",
    "note",
)
WAYS = ("on the device", "fetched ahead", "fetched when asked for")
"""Where a source's keys are when a block reads them: on the device all the time, or in the computer's memory until they
are fetched while the block before attends, or only then."""


@dataclass(frozen=True)
class Case:
    """One way to share; `guidance` is one of GUIDANCES, `background` whether the rest of the picture is shared too."""

    sources: Sources
    guidance: str
    background: bool

    def config(self, dtype: StoreDtype) -> KVShareConfig:
        """The bench's sharing with these choices, its bank on the compute device."""
        memory = MemorySettings(place="device", dtype=dtype)
        return replace(SHARING, sources=self.sources, share_background=self.background, memory=memory)


CASES = (
    *(Case(sources, guidance, False) for guidance in GUIDANCES for sources in get_args(Sources)),
    *(Case("first and previous", guidance, True) for guidance in GUIDANCES[1:]),
)
QUICK_CASES = CASES[2::3]


class RoundTrip:
    """How far tensors that came back are from what they were, over all of them together."""

    def __init__(self) -> None:
        self._difference = self._original = 0.0

    def add(self, original: torch.Tensor, returned: torch.Tensor) -> None:
        """Takes in one tensor and what came back of it."""
        expected = original.double()
        self._difference += float((returned.double() - expected).square().sum())
        self._original += float(expected.square().sum())

    @property
    def error(self) -> float | None:
        """Root mean square of the differences over that of the originals; None where nothing came back."""
        return math.sqrt(self._difference / self._original) if self._original else None


class WitnessBank(KeyValueBank):
    """A bank that compares the keys and values it gives back with those that were put."""

    def __init__(self, memory: MemorySettings) -> None:
        super().__init__(memory)
        self.keys, self.values = RoundTrip(), RoundTrip()
        self._originals: dict[BankKey, BankEntry] = {}

    def put(self, key: BankKey, entry: BankEntry, consumers: int) -> None:
        """As KeyValueBank does it; the entry is remembered until the next one of its key."""
        super().put(key, entry, consumers)
        self._originals[key] = entry

    def get(self, key: BankKey) -> BankEntry | None:
        """As KeyValueBank does it; what it gives is compared."""
        entry = super().get(key)
        if entry is not None:
            original = self._originals[key]
            for put, got in zip(_video_parts(original), _video_parts(entry), strict=True):
                if put is not None and got is not None:
                    self.keys.add(put.key, got.key)
                    self.values.add(put.value, got.value)
        return entry


def _video_parts(entry: BankEntry) -> tuple[StoredTokens | None, ...]:
    """All that the bank may quantise: text keeps its dtype."""
    return (*entry.subjects, entry.background)


@dataclass(frozen=True)
class Run:
    """A finished run: the bytes it said before that it would hold, whether that was all it could say or the very
    number, its bank, where that was, and the video [f, 3, h, w] in 0..1."""

    said_bytes: int
    exact: bool
    bank: WitnessBank
    device: str
    frames: torch.Tensor


class Witness:
    """Puts a WitnessBank into a run when its first forward begins, and keeps what the run said before."""

    def __init__(self) -> None:
        self.bank: WitnessBank | None = None
        self.said_bytes = 0
        self.exact = False

    def look(self, session: SamplingRun, reserved_bytes: int) -> None:
        """For Pipeline.watched."""
        if self.bank is None:
            self.bank = WitnessBank(session.settings.plan.config.memory)
            session.use_bank(self.bank)
            self.said_bytes = reserved_bytes
            self.exact = not session.settings.plan.finds_subjects


def run_case(pipeline: Pipeline, case: Case, dtype: StoreDtype, steps: int, seed: int) -> Run:
    """Makes the video of PROMPTS and watches its bank. Raises RuntimeError when no forward of the run was seen."""
    witness = Witness()
    mask = torch.zeros(1, FRAME_SIDE, FRAME_SIDE)
    mask[:, MASK_SPAN, MASK_SPAN] = 1
    clip = pipeline.watched(witness.look).generate(
        PROMPTS,
        seed=seed,
        overlap=OVERLAP,
        method=Method(case.config(dtype)),
        subject=SUBJECT if case.guidance == "words" else "",
        steps=steps,
        mask=mask if case.guidance == "mask" else None,
    )
    if witness.bank is None:
        raise RuntimeError("bench bank: the run ended without a forward")
    device = torch.device(pipeline.model.load_device).type
    return Run(witness.said_bytes, witness.exact, witness.bank, device, clip.frames)


def measure_runs(
    pipeline: Pipeline, cases: Sequence[Case], steps: int, seed: int, progress: Callable[[int, int], None]
) -> list[Row]:
    """One row for each case and dtype; `progress(done, total)` follows each run."""
    rows: list[Row] = []
    for case in cases:
        produced: Run | None = None
        for dtype in get_args(StoreDtype):
            run = run_case(pipeline, case, dtype, steps, seed)
            likeness = None if produced is None else psnr(run.frames, produced.frames)
            produced = produced or run
            rows.append(
                row(
                    case="embedded model",
                    sources=case.sources,
                    guidance=case.guidance,
                    background=None if case.guidance == "nothing" else case.background,
                    dtype=dtype,
                    prediction="exact" if run.exact else "at most",
                    **sizes(run.said_bytes, run.bank.peak_bytes),
                    key_error=run.bank.keys.error,
                    value_error=run.bank.values.error,
                    psnr_to_model=likeness,
                    device=run.device,
                )
            )
            progress(len(rows), len(cases) * len(get_args(StoreDtype)))
    return rows


def row(**figures: str | float | bool | None) -> Row:
    """A row of COLUMNS in which what is not given does not exist. Raises ValueError on a name that is no column."""
    unknown = figures.keys() - set(COLUMNS)
    if unknown:
        raise ValueError(f"bench bank has no columns {sorted(unknown)}")
    return {column: figures.get(column) for column in COLUMNS}


def sizes(predicted_bytes: int, held_bytes: int) -> dict[str, float | None]:
    """The columns that compare what was said with what was held."""
    return {
        "predicted_mib": predicted_bytes / 2**20,
        "held_mib": held_bytes / 2**20,
        "held_over_predicted": held_bytes / predicted_bytes if predicted_bytes else None,
    }


def psnr(video: torch.Tensor, reference: torch.Tensor) -> float | None:
    """Peak signal-to-noise ratio in dB of values in 0..1; None where both are equal and it has no end."""
    error = float((video.double() - reference.double()).square().mean())
    return -10 * math.log10(error) if error else None


@dataclass(frozen=True)
class ForwardShape:
    """Sizes of one forward. subject: part of the `tokens` that the subject takes; blocks: those that share."""

    heads: int
    head_dim: int
    tokens: int
    subject: float
    blocks: int
    rows: int
    dtype: torch.dtype

    @property
    def subject_tokens(self) -> int:
        return int(self.subject * self.tokens)

    @property
    def bank_bytes(self) -> int:
        """What a bank holds while each forward reads the one before it and leaves its own keys in their place."""
        counts = TokenCounts((self.subject_tokens,))
        one = entry_bytes(counts, self.heads, self.head_dim, self.dtype.itemsize, MemorySettings())
        return one * self.blocks * self.rows


WAN = ForwardShape(heads=12, head_dim=128, tokens=32_760, subject=0.3, blocks=10, rows=2, dtype=torch.bfloat16)
"""A window of 81 pictures of 480 x 832 in Wan 2.1 1.3B, conditional and unconditional."""
TRANSFER = {"sources": "previous", "guidance": "mask", "background": False, "dtype": "model"}
"""What `run_forwards` stands for, as columns."""


class Stopwatch:
    """Moments on a device's queue of work, without waiting for it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._events: list[torch.cuda.Event] = []
        self._moments: list[float] = []

    def mark(self) -> None:
        """Marks the moment in which everything queued so far is done."""
        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self.device))
            self._events.append(event)
        else:
            self._moments.append(time.perf_counter() * 1000)

    def milliseconds(self) -> list[float]:
        """Time from each mark to the next."""
        if self._events:
            torch.cuda.synchronize(self.device)
            return [first.elapsed_time(second) for first, second in itertools.pairwise(self._events)]
        return [second - first for first, second in itertools.pairwise(self._moments)]


@dataclass(frozen=True)
class Forwards:
    """Median milliseconds of a forward, the most bytes the bank held, and the last block's output
    [rows, heads, tokens, head_dim], the subject's tokens first."""

    milliseconds: float
    held_bytes: int
    output: torch.Tensor


@torch.inference_mode()
def run_forwards(shape: ForwardShape, device: torch.device, way: str, forwards: int, seed: int) -> Forwards:
    """Attention of all sharing blocks, segment after segment, each reading the subject's keys of the one before.

    way: one of WAYS. As in a pass, each block gets its source's keys, puts its own, has those of the next block fetched
    where that is the way, and attends. The rest of a block is left out: a model has more to hide a transfer behind.
    """
    bank = KeyValueBank(MemorySettings(place="device" if way == "on the device" else "cpu"))
    generator = torch.Generator(device).manual_seed(seed)
    form = (shape.rows, shape.heads, shape.tokens, shape.head_dim)
    query, key, value = (torch.randn(form, generator=generator, device=device, dtype=shape.dtype) for _ in range(3))
    places = torch.arange(shape.subject_tokens)
    index = places.to(device)
    subject, others = query[:, :, : len(places)], query[:, :, len(places) :]
    ahead = way == "fetched ahead"
    output = query

    def keys_of(segment: int, block: int) -> list[BankKey]:
        return [BankKey(segment, block, (0, 0), latent) for latent in range(shape.rows)]

    watch = Stopwatch(device)
    # The first segment has nothing to read and the second is the first that does: neither is timed.
    for segment in range(forwards + 2):
        if ahead:
            bank.prefetch(keys_of(segment - 1, 0))
        for block in range(shape.blocks):
            if way == "fetched when asked for" and device.type == "cuda":
                # Python runs ahead of the device, so that even this transfer would begin early by itself.
                torch.cuda.current_stream(device).synchronize()
            bank.let_go()
            found: list[StoredTokens] = []
            for latent, own in enumerate(keys_of(segment, block)):
                entry = bank.get(own._replace(segment=segment - 1))
                if entry is not None:
                    found += [part for part in entry.subjects if part is not None]
                kept = (tensor[latent : latent + 1].index_select(2, index) for tensor in (key, value))
                bank.put(own, BankEntry((StoredTokens(*kept, places),)), 1)
            foreign_key, foreign_value = (
                [torch.cat([getattr(part, name) for part in found])] if found else [] for name in ("key", "value")
            )
            seen = attention(subject, torch.cat([key, *foreign_key], 2), torch.cat([value, *foreign_value], 2))
            output = torch.cat([seen, attention(others, key, value)], 2)
            found.clear()
            if ahead and block + 1 < shape.blocks:
                bank.prefetch(keys_of(segment - 1, block + 1))
        if segment:
            watch.mark()
    return Forwards(statistics.median(watch.milliseconds()), bank.peak_bytes, output)


def hidden_share(on_device: float, ahead: float, asked: float) -> float | None:
    """Part of the time that keys from the computer's memory cost which fetching them ahead takes away; None where they
    cost nothing to begin with."""
    return (asked - ahead) / (asked - on_device) if asked > on_device else None


def measure_transfers(shape: ForwardShape, device: torch.device, forwards: int, seed: int) -> list[Row]:
    """One row for each of WAYS; the one that fetches ahead has the hidden share."""
    runs = {way: run_forwards(shape, device, way, forwards, seed) for way in WAYS}
    on_device, ahead, asked = (runs[way].milliseconds for way in WAYS)
    share = hidden_share(on_device, ahead, asked)
    return [
        row(
            case=f"Wan 1.3B, {way}",
            **TRANSFER,
            prediction="exact",
            **sizes(shape.bank_bytes, run.held_bytes),
            device=device.type,
            forward_ms=run.milliseconds,
            hidden_share=share if way == "fetched ahead" else None,
            note="nothing to hide" if way == "fetched ahead" and share is None else None,
        )
        for way, run in runs.items()
    ]


def transfers_left_out(device: str) -> Row:
    """The row where there is no way off the device."""
    note = "not measured: no CUDA device, so nothing is fetched beside the computation"
    return row(case="Wan 1.3B, fetched ahead", **TRANSFER, device=device, note=note)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="the key/value bank: predicted and held, 8 bits, hidden transfers")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--forwards", type=int, default=10, help="forwards to time on a CUDA device")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--quick", action="store_true", help="three cases and few steps, to see that it runs")
    options = parser.parse_args()
    if options.steps < 1 or options.forwards < 1:
        parser.error("--steps and --forwards must be at least 1")
    pipeline = load_pipeline()
    cases, steps = (QUICK_CASES, QUICK_STEPS) if options.quick else (CASES, options.steps)
    rows = measure_runs(pipeline, cases, steps, options.seed, lambda done, total: show_progress(done, total, "runs"))
    device = torch.device(pipeline.model.load_device)
    if device.type == "cuda":
        rows += measure_transfers(WAN, device, options.forwards, options.seed)
    else:
        rows.append(transfers_left_out(device.type))
    publish(make_result("bank", options.seed, rows, pipeline.host), options.json)


if __name__ == "__main__":
    main()
