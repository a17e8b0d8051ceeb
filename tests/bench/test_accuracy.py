"""The accuracy benchmark on rendered scenes, and the sampler that needs no host."""

from pathlib import Path

import pytest
import torch

from bench.accuracy import (
    DROPPED,
    TARGETS,
    PairTask,
    Task,
    count_right,
    count_right_in_pairs,
    describe,
    log_line,
    make_pair_tasks,
    make_tasks,
    measure_accuracy,
)
from bench.lean import flow_sigmas, load_lean_sampler
from bench.pictures import contact_sheet
from bench.pipeline import MODELS, models_of
from devtools.environment import find_host
from kvshare_core.embedded.scenes import Scenes, is_held_out, render, render_pairs, sample_pairs
from kvshare_core.embedded.training.denoiser import Denoiser, Shape
from kvshare_core.embedded.training.joint_transformer import JointShape
from kvshare_core.embedded.training.one_stream_transformer import OneStreamShape
from kvshare_core.embedded.training.transformer import TransformerShape
from kvshare_core.embedded.vocabulary import BACKGROUNDS, COLOURS, DIRECTIONS, PAIR_WORDS, PATTERNS, SHAPES, SIZES
from tests.support.latent_bases import latent_basis

TASKS = make_tasks(40, seed=5)


def show(said: dict[str, str]) -> torch.Tensor:
    """A rendered video of what is said; what is not said is small, red and plain."""
    words = {"size": "small", "colour": "red", "pattern": "plain", **said}
    options = {
        "colour": COLOURS,
        "pattern": PATTERNS,
        "shape": SHAPES,
        "direction": DIRECTIONS,
        "background": BACKGROUNDS,
        "size": SIZES,
    }
    indices = {name: torch.tensor([values.index(words[name])]) for name, values in options.items()}
    radius = torch.tensor([(0.15, 0.22)[int(indices["size"])]])
    return render(Scenes(radius=radius, travel=torch.tensor([0.4]), centre=torch.tensor([[0.5, 0.5]]), **indices))[0][0]


def test_half_of_the_captions_say_everything() -> None:
    assert all(set(task.said) == set(TARGETS) for task in TASKS[::2])
    dropped = [set(TARGETS) - set(task.said) for task in TASKS[1::2]]
    assert all(names <= {"colour", "size", "pattern"} for names in dropped)
    assert {name: 4 < sum(name in names for names in dropped) < 16 for name in DROPPED} == dict.fromkeys(DROPPED, True)
    assert any(not names for names in dropped)
    for task in TASKS:
        assert all(word in task.text.split() for word in task.said.values())


def test_the_combinations_are_held_out() -> None:
    for task in TASKS[::2]:
        options = {"colour": COLOURS, "shape": SHAPES, "direction": DIRECTIONS, "background": BACKGROUNDS}
        assert is_held_out(*(torch.tensor(values.index(task.said[name])) for name, values in options.items()))


def test_right_videos_are_right_and_wrong_ones_wrong() -> None:
    tasks = TASKS[:12]
    truth = {task.text: show(task.said) for task in tasks}
    seeds: list[int] = []

    def right(prompts: list[str], seed: int) -> torch.Tensor:
        seeds.append(seed)
        return torch.stack([truth[prompt] for prompt in prompts])

    rows, videos, detections = measure_accuracy(tasks, right, batch=5, seed=100)
    assert seeds == [100, 105, 110]
    assert len(videos) == len(detections) == 12
    assert [row["attribute"] for row in rows] == ["colour", "pattern", "shape", "direction", "background", "size"]
    assert all(row["accuracy"] == 1 and row["right"] == row["said"] for row in rows)
    assert describe(tasks[0], detections[0])[1].count("!") == 0

    turned = [torch.flip(truth[task.text], [0]) for task in tasks]
    rows, _, detections = measure_accuracy(
        tasks, lambda prompts, seed: torch.stack(turned[seed:][: len(prompts)]), 4, 0
    )
    assert {row["attribute"]: row["accuracy"] for row in rows} == dict.fromkeys(TARGETS, 1) | {"direction": 0}
    assert describe(tasks[0], detections[0])[1].count("!") == 1


def test_a_video_without_subject_is_all_wrong() -> None:
    task = Task("a circle moving right over night", {"shape": "circle", "direction": "right", "background": "night"})
    empty = show(task.said)[:, :, :1, :1].expand(17, 3, 96, 96)
    rows, _, detections = measure_accuracy([task], lambda prompts, seed: empty[None], 1, 0)
    assert [row["right"] for row in rows] == [0] * 6
    assert [row["accuracy"] for row in rows] == [None, None, 0, 0, 0, None]
    assert describe(task, detections[0])[1] == "! no subject, night"
    assert log_line(250, 4, rows, detections).startswith("step=250 captions=1 cfg=4 found=0 shape=0.000")
    assert count_right([task], detections) == rows


def test_two_subjects_are_right_in_either_order() -> None:
    tasks = make_pair_tasks(8, seed=3)
    for task in tasks:
        assert all(word in task.text.split() for said in task.said for word in said.values())
    scenes = sample_pairs(8, torch.Generator().manual_seed(3), held_out=True, patterned=True)
    videos = list(render_pairs(scenes)[0])
    rows = {row["attribute"]: row for row in count_right_in_pairs(tasks, videos)}
    assert {row["accuracy"] for row in rows.values()} == {1}
    assert rows["colour"]["said"] == 16 and rows["both subjects"]["said"] == 8
    swapped = [PairTask(task.text, task.said[::-1]) for task in tasks]
    assert count_right_in_pairs(swapped, videos) == list(rows.values())
    turned = {row["attribute"]: row for row in count_right_in_pairs(tasks, [video.flip(0) for video in videos])}
    assert turned["direction"]["accuracy"] < 0.5 and turned["colour"]["accuracy"] == 1


def test_a_model_that_knows_no_patterns_is_asked_for_none() -> None:
    tasks, pairs = make_tasks(20, seed=5, patterned=False), make_pair_tasks(4, seed=3, patterned=False)
    assert not any("pattern" in task.said for task in tasks)
    assert not any(word in task.text.split() for task in (*tasks, *pairs) for word in PATTERNS)
    videos = list(render_pairs(sample_pairs(4, torch.Generator().manual_seed(3), held_out=True))[0])
    assert "pattern" not in {row["attribute"] for row in count_right_in_pairs(pairs, videos)}


def test_one_subject_of_two_is_not_both() -> None:
    task = make_pair_tasks(1, seed=3)[0]
    rows = {row["attribute"]: row["right"] for row in count_right_in_pairs([task], [show(task.said[0])])}
    assert rows["both subjects"] == 0 and rows["shape"] == 1


def test_the_models_that_the_host_knows_are_measured() -> None:
    from kvshare_core.embedded.model import is_available

    assert models_of(find_host()) == tuple(model for model in MODELS if is_available(model))


def test_the_schedule_is_the_hosts() -> None:
    from comfy.model_sampling import ModelSamplingDiscreteFlow
    from comfy.samplers import calculate_sigmas

    sampling = ModelSamplingDiscreteFlow()
    sampling.set_parameters(shift=8.0, multiplier=1000)
    torch.testing.assert_close(flow_sigmas(20), calculate_sigmas(sampling, "simple", 20), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (TransformerShape(ffn_dim=64, layers=2), PAIR_WORDS[:32]),
        (JointShape(double_blocks=1, single_blocks=2), PAIR_WORDS),
        (OneStreamShape(layers=2), PAIR_WORDS),
    ],
    ids=["cross-attention", "joint-attention", "one-stream"],
)
def test_a_checkpoint_is_sampled_without_a_host(tmp_path: Path, shape: Shape, words: tuple[str, ...]) -> None:
    file = tmp_path / "denoiser.pt"
    model = Denoiser(shape, len(words))
    (output,) = [
        module
        for name, module in model.named_modules()
        if name.endswith(("head.head", "final_layer.linear", "proj_out")) and isinstance(module, torch.nn.Linear)
    ]
    torch.nn.init.normal_(output.weight, std=0.02)
    torch.save({"step": 250, "average": model.state_dict()}, file)
    sampler = load_lean_sampler(file, latent_basis())
    assert (sampler.step, sampler.model.transformer.shape) == (250, shape)
    prompts = ["a red circle moving right", "a shape moving", "a white square moving"]
    videos = sampler.sample(prompts, seed=3, steps=2, guidance=4.0)
    assert videos.shape == (3, 17, 3, 96, 96)
    torch.testing.assert_close(videos[2:], sampler.sample(prompts[2:], seed=5, steps=2, guidance=4.0))
    assert not torch.equal(videos[1], sampler.sample(prompts[:2], seed=3, steps=2, guidance=1.0)[1])


def test_other_files_are_refused(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="no checkpoint of the transformer's training"):
        load_lean_sampler(tmp_path / "other.pt", latent_basis())


def test_a_contact_sheet_holds_three_frames_of_every_clip() -> None:
    clips = [show(TASKS[0].said), show(TASKS[2].said)]
    sheet = contact_sheet(clips, [["first", "two lines"], ["second"]], columns=4)
    assert sheet.size == (2 * (3 * 96 + 8), 96 + 2 * 16 + 8)
    assert sheet.getpixel((4 + 48, 4 + 48)) != sheet.getpixel((0, 0))
    with pytest.raises(ValueError, match="2 clips, 1 labels"):
        contact_sheet(clips, [["first"]])
