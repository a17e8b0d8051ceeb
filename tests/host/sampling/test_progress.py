"""Progress of a run: steps only grow, and each message has the current segment and its preview."""

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import comfy.model_management
import latent_preview
import pytest
import torch
from comfy.model_management import InterruptProcessingException
from comfy_execution.utils import CurrentNodeContext
from latent_preview import prepare_callback

from kvshare_core.config import KVShareConfig, Order
from kvshare_core.host.sampling import progress as module
from kvshare_core.host.sampling.progress import EVENT, NOTICE, RunProgress
from tests.support.family_cases import CASES, model_of
from tests.support.family_contracts import patched, sample
from tests.support.windows import share, tiny_timeline
from tests.tiny.models import Sampling


class Listener:
    """A server that keeps what it is told to send."""

    client_id: str | None = "tab"
    workflow: ClassVar[dict[str, Any]] = {
        "2:1": {"class_type": "Film", "inputs": {"prompts": "a"}},
        "3": {"class_type": "Share", "inputs": {"film": ["2:1", 0], "strength": 1.0}},
        "sampler": {"class_type": "Sampler", "inputs": {"model": ["3", 0], "positive": ["2:1", 1]}},
        "4": {"class_type": "Film", "inputs": {"prompts": "b"}},
    }

    def __init__(self) -> None:
        running = [(0, "another", {}, {}, []), (1, "prompt", self.workflow, {}, [])]
        self.prompt_queue = SimpleNamespace(get_current_queue_volatile=lambda: (running, []))
        self.events: list[dict[str, Any]] = []
        self.notices: list[dict[str, Any]] = []
        self.heard: Callable[[], None] | None = None

    def send_sync(self, event: str, data: dict[str, Any], client: str) -> None:
        assert event in (EVENT, NOTICE) and client == "tab"
        (self.events if event == EVENT else self.notices).append(data)
        if self.heard is not None:
            self.heard()


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Listener:
    found = Listener()
    monkeypatch.setitem(sys.modules, "server", SimpleNamespace(PromptServer=SimpleNamespace(instance=found)))
    return found


def test_a_run_counts_steps_and_segments_of_the_node_that_runs(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    bar: list[tuple[float, float]] = []
    monkeypatch.setattr("comfy.utils.PROGRESS_BAR_HOOK", lambda value, total, preview, **_: bar.append((value, total)))
    timeline = tiny_timeline(2)
    case = CASES["wan t2v"]
    with CurrentNodeContext("prompt", "sampler"):
        sample(case, patched(case, timeline), timeline)
    told = [(one["step"], one["segment"]) for one in listener.events]
    steps, segments = listener.events[0]["steps"], len(timeline.segments)
    assert told == [(step, segment) for step in range(steps) for segment in range(segments)]
    assert {one["node"] for one in listener.events} == {"sampler"}
    assert all(sorted(one["above"]) == ["2:1", "3"] for one in listener.events)
    assert listener.events[-1]["prompt"] == timeline.beats[-1].prompt
    assert bar == sorted(bar) and bar[-1] == (steps, steps)


def test_an_interrupt_stops_before_the_next_segment(listener: Listener) -> None:
    listener.heard = comfy.model_management.interrupt_current_processing
    timeline = tiny_timeline(3)
    case = CASES["wan t2v"]
    with CurrentNodeContext("prompt", "sampler"), pytest.raises(InterruptProcessingException):
        sample(case, patched(case, timeline), timeline)
    assert len(listener.events) == 1 < len(timeline.segments)


def test_progress_is_sent_only_while_a_node_runs(listener: Listener) -> None:
    timeline = tiny_timeline(2)
    progress = RunProgress(timeline, model_of("wan t2v"))
    progress.begin_pass(0, 2)
    progress.begin_segment(timeline.segments[0], 0.0)
    progress.end_segment(torch.zeros(1, 16, 3, 6, 6), 0.5)
    assert listener.events == []


def test_a_prompt_that_nobody_owns_is_told_to_nobody(listener: Listener) -> None:
    listener.client_id = None
    case, timeline = CASES["wan t2v"], tiny_timeline(2)
    with CurrentNodeContext("prompt", "sampler"):
        sample(case, patched(case, timeline), timeline)
    assert listener.events == []


def test_what_a_run_has_to_say_is_told_to_its_owner_and_kept_in_its_record(listener: Listener) -> None:
    case, timeline = CASES["wan t2v"], tiny_timeline(2)
    model, record = share(model_of("wan t2v"), timeline, KVShareConfig(step_idx=(50,)))
    with CurrentNodeContext("prompt", "sampler"):
        sample(case, model, timeline)
    (notice,) = listener.notices
    assert (notice["node"], sorted(notice["above"]), notice["prompt_id"]) == ("sampler", ["2:1", "3"], "prompt")
    assert record.notices() == (notice["text"],)
    assert not any(beat.prompt in notice["text"] for beat in timeline.beats)
    listener.client_id = None
    with CurrentNodeContext("prompt", "sampler"):
        sample(case, model, timeline)
    assert len(listener.notices) == 1


def test_a_segment_is_shown_by_its_middle_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("comfy.utils.PROGRESS_BAR_HOOK", lambda value, total, preview, **_: shown.append(preview))
    monkeypatch.setattr(module.args, "preview_method", module.LatentPreviewMethod.Auto)
    timeline = tiny_timeline(2)
    progress = RunProgress(timeline, model_of("wan t2v"))
    progress.begin_pass(0, 1)
    denoised = torch.zeros(1, 16, 3, 6, 6)
    progress.end_segment(denoised, 0.5)
    denoised[:, :, 1] = 2
    progress.end_segment(denoised, 1.0)
    first, second = (image for _, image, _ in shown)
    assert first.size == (6, 6) and first.tobytes() != second.tobytes()


class AnimatedPreviewer(latent_preview.LatentPreviewer):
    """A previewer as other packs put in place of the host's: it shows whole videos, whose length it learns from the
    first call, and sends every frame once for each client."""

    clients: ClassVar[list["AnimatedPreviewer"]] = []

    def __init__(self) -> None:
        self.told: list[int] = []
        self.clients.append(self)

    def decode_latent_to_preview_image(self, preview_format: str, x0: torch.Tensor) -> Any:
        self.told.append(x0.shape[2])
        return None


@pytest.mark.parametrize("renamed", [False, True])
@pytest.mark.parametrize("order", ["lockstep", "sources_first"])
def test_a_previewer_of_whole_videos_has_one_client_that_sees_whole_videos(
    order: Order, renamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """renamed: whether the other pack's function says that it is the host's, as functools.wraps makes it."""

    def get_previewer(device: Any, latent_format: Any) -> Any:
        return AnimatedPreviewer()

    if renamed:
        get_previewer.__module__ = "latent_preview"
    monkeypatch.setattr(AnimatedPreviewer, "clients", [])
    monkeypatch.setattr(latent_preview, "get_previewer", get_previewer)
    monkeypatch.setattr(latent_preview.args, "preview_method", module.LatentPreviewMethod.Auto)
    monkeypatch.setattr("comfy.utils.PROGRESS_BAR_HOOK", lambda value, total, preview, **_: None)
    timeline, steps, case = tiny_timeline(2), 3, CASES["wan t2v"]
    model = patched(case, timeline, KVShareConfig(order=order))
    callback = prepare_callback(model, steps)
    shape = case.shape(timeline)
    case.run(Sampling(steps=steps), model, case.positive(timeline), case.negative(timeline), shape, callback=callback)
    told = [client.told for client in AnimatedPreviewer.clients if client.told]
    assert len(told) == 1 and set(told[0]) == {timeline.latent_frames}


def test_stages_move_one_bar_that_the_samplers_callback_moves_too(monkeypatch: pytest.MonkeyPatch) -> None:
    bar: list[tuple[float, float]] = []
    monkeypatch.setattr("comfy.utils.PROGRESS_BAR_HOOK", lambda value, total, preview, **_: bar.append((value, total)))
    timeline, steps = tiny_timeline(3), 4
    case = CASES["wan t2v"]
    model = patched(case, timeline, KVShareConfig(order="sources_first"))
    told = list[tuple[int, int]]()
    of_host = prepare_callback(model, steps)
    before = len(bar)

    def callback(step: int, denoised: Any, latent: Any, total: int) -> None:
        told.append((step, total))
        of_host(step, denoised, latent, total)

    case.run(
        Sampling(steps=steps),
        model,
        case.positive(timeline),
        case.negative(timeline),
        case.shape(timeline),
        callback=callback,
    )
    # A segment in the first stage and three in the second, in each step.
    assert {total for _, total in bar[before:]} == {4 * steps}
    assert bar == sorted(bar) and bar[-1] == (4 * steps, 4 * steps)
    assert told == [(done - 1, 4 * steps) for done in (1, 2, 3, 4, 7, 10, 13, 16)]
