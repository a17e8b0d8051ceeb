"""The benchmark of a device: memory and time at the size of released models; on a CPU with small ones, to see that it
runs."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_management
import comfy.sd
import torch
import torch.nn.functional as F
from comfy.patcher_extension import WrappersMP
from torch.profiler import ProfilerActivity
from torch.profiler import profile as profiler

from kvshare_core.attention.log_sum_exp import LogSumExpAttention
from kvshare_core.config import KVShareConfig
from kvshare_core.timeline.timeline import Timeline
from tests.support.windows import PlainWindows, beat_prompts, share, tiny_timeline
from tests.tiny.models import Sampling, one_prompt

from . import memory as call_memory
from .attention import PATHS, SHAPES
from .attention import measure as measure_attention
from .bank import WAN, measure_transfers
from .device_rows import row_of
from .form import Row
from .memory import DEFAULTS, IN_FP8, Place
from .meters import wait
from .methods import OFF, PAPER, SHARING
from .plans import plan_row
from .released import RELEASED, Released, of_class, released_module, wan

GIB = 2**30
MEMORY_MODELS = ("CogVideoX-2B 480x720x49", "Wan 2.1-1.3B 480p 81 frames", "Wan 2.1-14B 720p 81 frames")
MEMORY_WAYS: Mapping[str, KVShareConfig] = {
    "defaults": DEFAULTS,
    "fp8": IN_FP8,
    "extend": replace(DEFAULTS, mode="extend", strength=0.5),
    "matched": replace(DEFAULTS, position="matched"),
    "frame": replace(DEFAULTS, position="frame"),
}
SUBJECT = 0.3
"""Part of the picture that is the subject."""
INPUTS = 6
"""Most times the size of the queries that a call's inputs and the bank take beside what the call itself takes."""
OVER_PREDICTED = 1.05
"""Most that a call may hold over what was predicted: a kernel takes a little for itself."""
STEPS = 3
OVERLAP = 3
METHODS: Mapping[str, KVShareConfig | None] = {
    "stock": None,
    "off": OFF,
    "defaults": SHARING,
    "ditctrl": replace(PAPER, start_percent=0.0, end_percent=1.0),
}
"""None stands for the segments without the pack."""
BOUNDS = {"off": 1.01, "defaults": 1.05}
"""Most that a step may take over one of stock windows."""
FAST = 250.0
"""TFLOPS of a large matrix product from which on there is time for three segments with guidance."""
OPERATIONS = 12


@dataclass(frozen=True)
class Sized:
    """A model of random weights and the film that it samples."""

    released: Released
    segments: int = 3
    cfg: float = 3.0

    @property
    def rows(self) -> int:
        """Batch rows of a forward."""
        return 1 if self.cfg == 1 else 2


SMALL_WAN = Sized(
    Released(
        "small Wan",
        "wan.model",
        wan(dim=256, ffn_dim=512, num_heads=2, num_layers=2),
        16,
        (3, 8, 8),
        8,
        512,
    ),
    segments=2,
)
SMALL_COG = Sized(
    Released(
        "small CogVideoX",
        "cogvideo.model",
        of_class("CogVideoXTransformer3DModel", num_attention_heads=3, num_layers=2),
        16,
        (3, 8, 8),
        8,
        512,
    ),
    segments=2,
)


def _sized(device: torch.device) -> list[Sized]:
    """The models, and films that the device can sample in the time of the part."""
    if device.type != "cuda":
        return [SMALL_WAN, SMALL_COG]
    names = ("Wan 2.1-1.3B 480p 81 frames", "CogVideoX-2B 480x720x49")
    film = (3, 3.0) if _matrix_tflops(device) >= FAST else (2, 1.0)
    return [Sized(one, *film) for name in names for one in RELEASED if one.name == name]


def _free(device: torch.device) -> float:
    """Bytes that are free on the device."""
    return float(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else float("inf")


def _backend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return F.scaled_dot_product_attention(query, key, value)


@torch.inference_mode()
def memory(device: torch.device) -> Iterator[Row]:
    """One shared call of each way, against what is predicted."""
    place = Place(device, _backend, LogSumExpAttention) if device.type == "cuda" else call_memory.ON_META
    for released in (one for one in RELEASED if one.name in MEMORY_MODELS):
        try:
            model = call_memory.model_of(released)
        except ModuleNotFoundError as missing:
            yield row_of("memory", released.name, "peak_gib", None, note=f"the host lacks it: {missing}")
            continue
        queries = 2 * model.tokens * model.info.heads * model.info.head_dim * 2
        if INPUTS * queries > _free(device):
            note = f"the device has {_free(device) / GIB:.1f} GiB free"
            yield row_of("memory", model.name, "peak_gib", None, note=note)
            continue
        for name, config in MEMORY_WAYS.items():
            if config.position == "matched" and model.scheme is None:
                continue
            with suppress(torch.OutOfMemoryError):
                found = call_memory.measure(model, config, SUBJECT, 2, place)
                case, dtype = f"{model.name}, {name}", "bf16"
                yield row_of("memory", case, "stock_gib", found["stock_gib"], dtype=dtype)
                yield row_of("memory", case, "predicted_gib", found["predicted_gib"], dtype=dtype)
                most = OVER_PREDICTED * found["predicted_gib"]
                yield row_of("memory", case, "peak_gib", found["peak_gib"], dtype=dtype, bound=most)


def transfers(device: torch.device) -> Iterator[Row]:
    """The hidden share of transfers, as in bench bank."""
    shape = WAN if device.type == "cuda" else replace(WAN, tokens=64, heads=2, blocks=2, dtype=torch.float32)
    for found in measure_transfers(shape, device, 6 if device.type == "cuda" else 2, seed=0):
        dtype = str(shape.dtype).removeprefix("torch.")
        yield row_of("transfers", str(found["case"]), "forward_ms", _number(found["forward_ms"]), dtype=dtype)
        if found["hidden_share"] is not None:
            yield row_of("transfers", str(found["case"]), "hidden_share", _number(found["hidden_share"]), dtype=dtype)


def _number(value: Any) -> float:
    return float(value)


def attention(device: torch.device) -> Iterator[Row]:
    """bench attention at full length, one part of the picture."""
    for shape in SHAPES:
        for path in PATHS:
            grid = shape.grid if device.type == "cuda" else shape.quick_grid
            case = f"{shape.name}, {path.name}"
            try:
                found = measure_attention(shape, grid, path, SUBJECT, device, 3 if device.type == "cuda" else 1, 0)
            except torch.OutOfMemoryError:
                yield row_of("attention", case, "ours_s", None, note="out of memory: the dense passes need most")
                continue
            dtype = str(found["dtype"])
            for figure in ("plain_s", "ours_s", "dense_s", "ours_over_plain", "bound", "ours_over_bound", "max_error"):
                yield row_of("attention", case, figure, _number(found[figure]), dtype=dtype)


def random_model(sized: Sized, device: torch.device) -> Any:
    """A MODEL of the host with seeded random weights in bf16. Raises ModuleNotFoundError where the host lacks it."""
    generator = torch.Generator(device).manual_seed(0)
    state: dict[str, torch.Tensor] = {}
    for name, like in released_module(sized.released).named_parameters():
        made = torch.empty(like.shape, dtype=torch.bfloat16, device=device)
        if "norm" in name and name.endswith("weight"):
            state[name] = made.fill_(1.0)
        else:
            # Activations stay near 1.
            spread = 0.1 if like.ndim == 1 else like[0].numel() ** -0.5
            state[name] = made.normal_(0.0, spread, generator=generator)
    return comfy.sd.load_diffusion_model_state_dict(state)


class StepClock:
    """Seconds of the steps of a run by the sampler `euler`, each of which is one call of the model."""

    def __init__(self, device: torch.device):
        self.seconds: list[float] = []
        self._device = device

    def on(self, model: Any) -> Any:
        """A clone of `model` whose calls are timed, on a device that has nothing left to do before and after each."""
        clone = model.clone()
        clone.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "bench", self._call)
        return clone

    def _call(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        wait(self._device)
        start = time.perf_counter()
        result = executor(*args, **kwargs)
        wait(self._device)
        self.seconds.append(time.perf_counter() - start)
        return result


@dataclass(frozen=True)
class Film:
    """A film on a sized model."""

    sized: Sized
    model: Any
    timeline: Timeline

    @classmethod
    def of(cls, sized: Sized, device: torch.device) -> "Film":
        """The film of a sized model. Raises as `random_model`."""
        frames = sized.released.latent[0]
        timeline = tiny_timeline(sized.segments, frames, min(OVERLAP, frames // 2))
        return cls(sized, random_model(sized, device), timeline)

    def patched(self, config: KVShareConfig | None) -> Any:
        """The model that samples the film so."""
        if config is None:
            return PlainWindows(self.timeline).on(self.model)
        return share(self.model, self.timeline, config)[0]

    def sample(self, model: Any, callback: Callable[..., None] | None = None) -> torch.Tensor:
        """A run of a patched model."""
        _, height, width = self.sized.released.latent
        shape = (1, self.sized.released.channels, self.timeline.latent_frames, height, width)
        prompts = beat_prompts(self.timeline, self.sized.released.text)
        negative = one_prompt(tokens=self.sized.released.text)
        return Sampling(STEPS, self.sized.cfg).run(model, prompts, negative, shape, callback=callback)

    def tflop(self) -> float:
        """Of a step of the stock windows."""
        total = plan_row(self.sized.released, None)["total_tflop"]
        assert isinstance(total, float)
        return total * self.sized.rows * self.sized.segments


def steps(device: torch.device) -> Iterator[Row]:
    """Seconds of a step of every method."""
    for sized in _sized(device):
        try:
            film = Film.of(sized, device)
        except ModuleNotFoundError as missing:
            yield row_of("steps", sized.released.name, "seconds_per_step", None, note=f"the host lacks it: {missing}")
            continue
        stock = 0.0
        for name, config in METHODS.items():
            clock = StepClock(device)
            result = film.sample(clock.on(film.patched(config)))
            first, *later = clock.seconds[-STEPS:]
            seconds = statistics.mean(later)
            stock = stock or seconds
            case = f"{sized.released.name}, {name}"

            def row(figure: str, value: float, case: str = case, **further: Any) -> Row:
                return row_of("steps", case, figure, value, dtype="bf16", **further)

            finite, film_of = bool(torch.isfinite(result).all()), f"{sized.segments} segments, cfg {sized.cfg:g}"
            yield row("seconds_per_step", seconds, ok=finite, note=film_of)
            # Small models on a CPU say nothing of what a step costs.
            bound = BOUNDS.get(name) if device.type == "cuda" else None
            yield row("over_stock", seconds / stock, bound=bound)
            yield row("first_step", first / seconds)
            yield row("tflops", film.tflop() / seconds)
        del film
        gc.collect()
        comfy.model_management.unload_all_models()


def profile(device: torch.device) -> Iterator[Row]:
    """A steady step of the defaults, operation by operation, and the floor."""
    sized = _sized(device)[0]
    film = Film.of(sized, device)
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    watch = profiler(activities=kinds)
    moments: list[float] = []

    def after(step: int, *latents: Any) -> None:
        wait(device)
        if step == STEPS - 2:
            watch.start()
            moments.append(time.perf_counter())
        elif step == STEPS - 1:
            moments.append(time.perf_counter())
            watch.stop()

    film.sample(film.patched(SHARING), callback=after)
    seconds = moments[1] - moments[0]
    on_device = device.type == "cuda"

    def own(event: Any) -> float:
        return (event.self_device_time_total if on_device else event.self_cpu_time_total) / 1e6

    events = sorted(watch.key_averages(), key=own, reverse=True)
    case = sized.released.name
    yield row_of("profile", case, "seconds", seconds, note="one step under the profiler")
    for event in events[:OPERATIONS]:
        yield row_of("profile", event.key[:80], "seconds", own(event), note=f"{event.count} calls")
    yield row_of("profile", case, "busy_share", sum(own(event) for event in events) / seconds)
    speed = _matrix_tflops(device)
    yield row_of("profile", case, "matrix_tflops", speed, dtype="bf16" if on_device else "float32")
    yield row_of("profile", case, "floor_tflop", film.tflop())
    yield row_of("profile", case, "floor_share", film.tflop() / speed / seconds)


def _matrix_tflops(device: torch.device) -> float:
    """What the device makes of a large matrix product."""
    side, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (256, torch.float32)
    one = torch.randn(side, side, device=device, dtype=dtype)
    taken: list[float] = []
    for _ in range(5):
        wait(device)
        start = time.perf_counter()
        torch.mm(one, one)
        wait(device)
        taken.append(time.perf_counter() - start)
    return 2 * side**3 / min(taken) / 1e12
