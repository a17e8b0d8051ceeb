"""Conditioning per frame is cut to each segment, other conditioning stays whole, what cannot be cut is refused."""

import uuid
from collections.abc import Mapping
from typing import Any

import comfy.conds
import comfy.controlnet
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_wan import WanFirstLastFrameToVideo, WanImageToVideo
from hypothesis import given
from hypothesis import strategies as st

from kvshare_core.config import KVShareConfig
from kvshare_core.embedded.model import load_vae
from kvshare_core.families import FAMILIES
from kvshare_core.families.model_inputs import Indivisible, InputLayout, PerFrame
from kvshare_core.host import BEAT_TAG
from kvshare_core.host.conditioning.slicing import COMMON_INPUTS, slice_conditioning
from kvshare_core.timeline.timeline import Segment
from tests.support.windows import beat_prompts, latent_shape, share, tiny_timeline
from tests.tiny.models import Sampling, one_prompt, random_text, tiny_wan

INPUTS: dict[str, Mapping[str, InputLayout]] = {"common": COMMON_INPUTS} | {
    family.name: family.inputs for family in FAMILIES
}
"""Inputs with a known layout: those of every family, and each family's own."""

Input = tuple[str, str, int | None]
"""Family, name and, where it decides about the layout, number of dimensions of an input."""

PER_FRAME: dict[Input, PerFrame] = {}
WHOLE: list[Input] = []
for _family, _inputs in INPUTS.items():
    for _name, _layout in _inputs.items():
        if isinstance(_layout, PerFrame):
            PER_FRAME[_family, _name, None] = _layout
        elif isinstance(_layout, Mapping):
            PER_FRAME |= {(_family, _name, dims): layout for dims, layout in _layout.items()}
        elif _layout in ("whole video", "text length"):
            WHOLE.append((_family, _name, None))


def dims_of(name: str, dims: int | None = None) -> int:
    """Number of dimensions of an input that has frames."""
    return dims or (6 if name == "vace_context" else 5)


def cut(
    model_conds: dict[str, Any],
    segment: Segment,
    frames: int,
    resize: Any = None,
    family: str = "wan",
    **entries: Any,
) -> dict[str, Any]:
    """A conditioning of these inputs for one segment of a latent of `frames` frames."""
    cond = {"model_conds": model_conds, "uuid": uuid.uuid4(), **entries}
    return slice_conditioning(cond, torch.zeros(1, 16, frames, 4, 4), segment, "window", INPUTS[family], resize)


def cut_one(name: str, tensor: torch.Tensor, segment: Segment, frames: int, family: str = "wan") -> torch.Tensor | None:
    value = cut({name: comfy.conds.CONDRegular(tensor)}, segment, frames, family=family)["model_conds"].get(name)
    return None if value is None else value.cond


def numbered(dims: int, dim: int, entries: int, size: int) -> torch.Tensor:
    """A tensor of `dims` dimensions, `size` long in all but `dim`, whose values there are 0, 1, 2, ..."""
    shape = [size] * dims
    shape[dim] = entries
    view = [1] * dims
    view[dim] = entries
    return torch.arange(entries, dtype=torch.float32).view(view).expand(shape)


@st.composite
def places(draw: st.DrawFn) -> tuple[Segment, int]:
    """A segment that is not all of a latent, and the frames of that latent."""
    frames = draw(st.integers(3, 12))
    length = draw(st.integers(2, frames - 1))
    return Segment(draw(st.integers(0, 5)), 0, draw(st.integers(0, frames - length)), length), frames


@given(places(), st.sampled_from(list(PER_FRAME)), st.booleans())
def test_an_input_with_frames_is_cut_at_them(place: tuple[Segment, int], entry: Input, same_size: bool) -> None:
    (segment, frames), (family, name, dims), layout = place, entry, PER_FRAME[entry]
    # Other dimensions of the very same size must not matter.
    size = frames if same_size else 2
    full = numbered(dims_of(name, dims), layout.dim, (frames - layout.first) * layout.per_frame, size)
    found = cut_one(name, full, segment, frames, family)
    assert found is not None
    wanted = [
        (frame - layout.first) * layout.per_frame + number
        for frame in range(segment.start + layout.first, segment.stop)
        for number in range(layout.per_frame)
    ]
    assert found.movedim(layout.dim, 0).flatten(1)[:, 0].tolist() == wanted
    assert [size for place, size in enumerate(found.shape) if place != layout.dim] == [
        size for place, size in enumerate(full.shape) if place != layout.dim
    ]


@given(places(), st.sampled_from(WHOLE), st.integers(1, 5))
def test_an_input_for_the_whole_video_stays_whatever_its_size(
    place: tuple[Segment, int], entry: Input, dims: int
) -> None:
    (segment, frames), (family, name, _) = place, entry
    full = torch.randn([frames] * dims)
    assert cut_one(name, full, segment, frames, family) is full


@pytest.mark.parametrize("entry", [entry for entry, layout in PER_FRAME.items() if layout.length == "exact"])
@pytest.mark.parametrize("difference", [-1, 1])
def test_an_input_of_another_length_is_refused_and_named(entry: Input, difference: int) -> None:
    family, name, dims = entry
    full = numbered(dims_of(name, dims), PER_FRAME[entry].dim, 7 + difference, 7)
    with pytest.raises(ValueError, match=rf"Mask-Guided KV Share: .*{name} covers {7 + difference} latent frames.* 7"):
        cut_one(name, full, Segment(1, 0, 2, 4), 7, family)


def test_a_pose_video_may_end_early_and_is_left_out_behind_its_end() -> None:
    pose = numbered(5, 2, 3, 2)
    found = cut_one("pose_latents", pose, Segment(0, 0, 1, 4), 9)
    assert found is not None and found[0, 0, :, 0, 0].tolist() == [1, 2]
    assert cut_one("pose_latents", pose, Segment(1, 0, 4, 4), 9) is None


def test_audio_that_ends_early_is_refused() -> None:
    with pytest.raises(ValueError, match="audio_embed covers 5 latent frames"):
        cut_one("audio_embed", torch.zeros(1, 5, 8, 5, 4), Segment(0, 0, 0, 4), 7)


def test_an_input_of_the_video_as_a_whole_is_refused_with_its_reason() -> None:
    for family, inputs in INPUTS.items():
        for name, layout in inputs.items():
            if isinstance(layout, Indivisible):
                with pytest.raises(ValueError, match="Mask-Guided KV Share: the conditioning has ") as refused:
                    cut_one(name, torch.zeros(1, 3, 9, 2), Segment(0, 0, 0, 4), 7, family)
                assert str(refused.value).endswith(layout.reason)


def test_what_came_before_the_video_belongs_to_its_first_segment() -> None:
    motion = torch.zeros(1, 16, 19, 4, 4)
    assert cut_one("reference_motion", motion, Segment(0, 0, 0, 4), 19) is motion
    assert cut_one("reference_motion", motion, Segment(1, 0, 3, 4), 19) is None


def test_a_video_beside_the_video_is_cut_with_it_and_a_picture_is_not() -> None:
    video, picture = numbered(5, 2, 7, 4), torch.zeros(1, 16, 1, 4, 4)
    conds = {"context_latents": comfy.conds.CONDList([video, picture])}
    latents = cut(conds, Segment(1, 0, 2, 4), 7)["model_conds"]["context_latents"].cond
    assert latents[0][0, 0, :, 0, 0].tolist() == [2, 3, 4, 5]
    assert latents[1] is picture


def test_an_input_of_another_family_is_unknown() -> None:
    with pytest.raises(ValueError, match="an input 'camera_conditions'"):
        cut_one("camera_conditions", torch.zeros(1, 7, 7), Segment(1, 0, 2, 4), 7, family="mochi")


def test_an_unknown_input_in_the_layout_of_a_latent_is_cut() -> None:
    found = cut_one("something_new", numbered(5, 2, 7, 3), Segment(1, 0, 2, 4), 7)
    assert found is not None and found[0, 0, :, 0, 0].tolist() == [2, 3, 4, 5]


@pytest.mark.parametrize("shape", [(1, 7, 16), (1, 3, 16, 7), (1, 16, 8, 7, 4)])
def test_an_unknown_input_that_may_have_frames_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Mask-Guided KV Share: .*'something_new' .* 7 latent frames"):
        cut_one("something_new", torch.zeros(shape), Segment(1, 0, 2, 4), 7)
    assert cut_one("something_new", torch.zeros(7, 3), Segment(1, 0, 2, 4), 7) is not None


def test_the_host_cuts_what_only_it_knows() -> None:
    asked: list[str] = []

    def resize(name: str, value: Any, window: Any, x_in: Any, device: Any, retain_index_list: Any) -> Any:
        asked.append(name)
        assert (window, retain_index_list) == ("window", [])
        return value._copy_with(value.cond[:, :4]) if name == "something_new" else None

    conds = {
        name: comfy.conds.CONDRegular(torch.zeros(1, 7, 7, 7, 7)) for name in ("something_new", "c_concat", "clip_fea")
    }
    found = cut(conds, Segment(1, 0, 2, 4), 7, resize)["model_conds"]
    assert found["something_new"].cond.shape[1] == 4
    assert asked == ["something_new"]


def test_one_segment_leaves_everything_as_it_is() -> None:
    conds = {"something_new": comfy.conds.CONDRegular(torch.zeros(1, 7, 7)), "c_concat": "whatever"}
    assert cut(conds, Segment(0, 0, 0, 7), 7, control=object())["model_conds"] == conds


def test_a_mask_over_frames_is_cut_and_one_over_the_picture_is_not() -> None:
    moving, still = numbered(4, 1, 7, 3), torch.ones(1, 1, 4, 4)
    assert cut({}, Segment(1, 0, 2, 4), 7, mask=moving)["mask"][0, :, 0, 0].tolist() == [2, 3, 4, 5]
    assert cut({}, Segment(1, 0, 2, 4), 7, mask=still)["mask"] is still


def test_an_area_of_some_frames_is_refused() -> None:
    for area in ((3, 4, 4, 0, 0, 0), (7, 4, 4, 1, 0, 0)):
        with pytest.raises(ValueError, match="Mask-Guided KV Share: a conditioning area covers only a part of"):
            cut({}, Segment(1, 0, 2, 4), 7, area=area)
    for area in ((7, 4, 4, 0, 2, 0), (2, 2, 0, 0)):
        assert cut({}, Segment(1, 0, 2, 4), 7, area=area)["area"] == area


# On the real host.


def test_a_control_net_over_several_segments_is_refused() -> None:
    model, control = tiny_wan(layers=1), comfy.controlnet.ControlBase()
    timeline = tiny_timeline(2)
    with pytest.raises(ValueError, match=r"Mask-Guided KV Share: a ControlNet .* Remove the Apply ControlNet nodes"):
        Sampling(1).run(
            share(model, timeline)[0], beat_prompts(timeline, control=control), one_prompt(), latent_shape(timeline)
        )


def concatenated(model: Any, timeline: Any, positive: list[Any], negative: list[Any], side: int) -> list[torch.Tensor]:
    """What the model gets as extra channels, for each segment in turn."""
    seen: list[torch.Tensor] = []

    def look(executor: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(args[2])
        return executor(*args, **kwargs)

    patched, _ = share(model, timeline, KVShareConfig(mode="off"), subject="")
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
    tagged = [[random_text(beat), {**positive[0][1], BEAT_TAG: beat}] for beat in range(len(timeline.beats))]
    Sampling(1, cfg=1.0).run(patched, tagged, negative, latent_shape(timeline, side=side))
    assert len(seen) == len(timeline.segments)
    return seen


@pytest.fixture(scope="module")
def image_to_video() -> Any:
    return tiny_wan(image_to_video=True, layers=1)


@pytest.mark.parametrize("overlap", [0, 1])
def test_the_start_image_is_in_the_first_segment_and_its_mask_nowhere_else(image_to_video: Any, overlap: int) -> None:
    timeline = tiny_timeline(3, overlap=overlap)
    pictures = (timeline.latent_frames - 1) * 4 + 1
    start = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(1))
    arguments = (one_prompt(), one_prompt(), load_vae(), 64, 64, pictures, 1)
    with torch.inference_mode():
        positive, negative, _ = WanImageToVideo.execute(*arguments, start_image=start).args
        gray, _, _ = WanImageToVideo.execute(*arguments, start_image=torch.full_like(start, 0.5)).args
    with_image = concatenated(image_to_video, timeline, positive, negative, 8)
    without = concatenated(image_to_video, timeline, gray, negative, 8)
    assert [float(segment[:, :4, 0].min()) for segment in with_image] == [1.0, 0.0, 0.0]
    assert all(segment[:, :4, 1:].max() == 0 for segment in with_image)
    differences = [(one - other)[:, 4:].abs() for one, other in zip(with_image, without, strict=True)]
    assert differences[0][:, :, 0].max() > 0.5
    # What a causal VAE leaks of the image into later frames fades; no later segment begins with the image.
    assert all(difference[:, :, 0].max() < 0.2 * differences[0][:, :, 0].max() for difference in differences[1:])


def test_the_last_image_is_in_the_last_segment_only(image_to_video: Any) -> None:
    timeline = tiny_timeline(3, overlap=0)
    pictures = (timeline.latent_frames - 1) * 4 + 1
    images = torch.rand(2, 1, 64, 64, 3, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        positive, negative, _ = WanFirstLastFrameToVideo.execute(
            one_prompt(), one_prompt(), load_vae(), 64, 64, pictures, 1, start_image=images[0], end_image=images[1]
        ).args
    masks = [segment[0, :4, :, 0, 0] for segment in concatenated(image_to_video, timeline, positive, negative, 8)]
    assert masks[0][:, 0].tolist() == [1, 1, 1, 1] and masks[0][:, 1:].max() == 0
    assert masks[1].max() == 0
    assert masks[2][:, :-1].max() == 0 and masks[2][:, -1].max() == 1


def test_what_the_host_cuts_itself_is_cut_as_here() -> None:
    """For the inputs that both know; so that a new host with another idea of them is noticed."""
    model = tiny_wan(layers=1).model
    if not hasattr(model, "resize_cond_for_context_window"):
        pytest.skip("the host's models do not cut conditioning themselves")
    from comfy.model_base import WAN21_HuMo, WAN21_Vace, WAN22_Animate

    classes = {
        "vace_context": WAN21_Vace,
        "audio_embed": WAN21_HuMo,
        "pose_latents": WAN22_Animate,
        "face_pixel_values": WAN22_Animate,
    }
    timeline = tiny_timeline(3)
    x_in = torch.zeros(latent_shape(timeline))
    frames = timeline.latent_frames
    for name, base_class in classes.items():
        layout = PER_FRAME["wan", name, 5 if name == "audio_embed" else None]
        full = numbered(dims_of(name), layout.dim, (frames - layout.first) * layout.per_frame, 2)
        value = comfy.conds.CONDRegular(full)
        for segment in timeline.segments:
            window = window_of(segment, x_in)
            theirs = base_class.resize_cond_for_context_window(
                object.__new__(base_class), name, value, window, x_in, x_in.device, retain_index_list=[]
            )
            found = cut_one(name, full, segment, frames)
            assert found is not None and torch.equal(found, theirs.cond), name


def window_of(segment: Segment, x_in: torch.Tensor) -> Any:
    from kvshare_core.host.sampling.segment_window import SegmentWindow
    from kvshare_core.plan.schedule import Evaluation

    return SegmentWindow(Evaluation(segment, "plain"), x_in)
