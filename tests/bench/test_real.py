"""Films of storyboards on a running ComfyUI: reading storyboards, changing a workflow, looking at films."""

import copy
import json
from pathlib import Path

import pytest
import torch

from bench.graphs import nodes_of
from bench.real import KeptFilms, make_films, rows
from bench.real_boards import Board, read_boards
from bench.real_films import FRAMES, MASKS, WAYS, RealFilm, Studio, Way, pictures_of, seeded
from bench.real_scores import Eye, Seen, look_at, rim_likeness, seams, speed, subject_crop, summary
from bench.side_effects import cscv
from devtools import client
from devtools.environment import ROOT
from devtools.server import Server
from kvshare_core.script.parsing import parse_script

STORY = """subject: circle
a circle moving right over sand
a circle moving up over sand
[cut]
a circle moving left over night"""
BOARD = Board("circle", parse_script(STORY))
SIDE = 24


def film(frames: torch.Tensor, masks: torch.Tensor | None = None) -> RealFilm:
    """A film of BOARD whose beats have a third of the frames each."""
    third = len(frames) // 3
    return RealFilm(BOARD, frames, masks, ((0, third), (third, 2 * third), (2 * third, 3 * third)), 1.0)


def colour_eye() -> Eye:
    """Sees the mean colour of a picture, and reads the name of one."""
    names = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0)}

    def read(texts: object) -> torch.Tensor:
        return torch.tensor([names[text.split()[1]] for text in texts])  # type: ignore[attr-defined]

    return Eye("colours", lambda frames: frames.mean((2, 3)), read, clip=True)


def blind_to_text() -> Eye:
    """Sees the mean colour of a picture, and reads any text as grey."""
    return Eye("colours", lambda frames: frames.mean((2, 3)), lambda texts: torch.ones(len(texts), 3), True)


def test_the_packs_own_storyboards_are_24_of_two_to_four_prompts_with_one_subject_each() -> None:
    boards = read_boards()
    assert len(boards) == 24 and {len(board.prompts) for board in boards} == {2, 3, 4}
    for board in boards:
        (subject,) = board.script.subjects
        assert all(subject.words in prompt for prompt in board.prompts)
    assert any(any(board.new_scenes) for board in boards) and not all(all(board.new_scenes) for board in boards)


def test_files_of_other_benchmarks_are_read(tmp_path: Path) -> None:
    groups = tmp_path / "groups.txt"
    groups.write_text("A dog runs.\nA dog sits.\n###\nA cat climbs.\nA cat sleeps.\nA cat eats.\n###\n")
    assert [board.prompts for board in read_boards(groups)] == [
        ("A dog runs.", "A dog sits."),
        ("A cat climbs.", "A cat sleeps.", "A cat eats."),
    ]
    case = tmp_path / "case.yaml"
    case.write_text('args:\n  seed: 42\n  prompts:\n    - "a | bear: walks"\n    - "Scene 1"\n')
    (board,) = read_boards(case)
    assert board.prompts == ("a | bear: walks", "Scene 1")
    assert tuple(beat.prompt for beat in parse_script(board.text).beats) == board.prompts


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "a dog\n###\na cat\na dog\n", "storyboard a-001 has one prompt"),
        ("a.txt", "a dog\na cat\n###\n[3 bananas] a dog\na cat\n", "a.txt: storyboard 2: prompts, line 1"),
        ("a.yaml", "args: [1]\n", "a.yaml: no list of prompts in args.prompts"),
        ("a.yaml", "args: {prompts: [1, 2]}\n", "a.yaml: no list of prompts in args.prompts"),
        ("a.yaml", "args: {\n", "a.yaml: no YAML"),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_boards(tmp_path / name)


def test_a_film_that_stands_still_is_steady_and_has_no_speed() -> None:
    still = torch.rand(1, 3, SIDE, SIDE).expand(9, -1, -1, -1)
    assert cscv(still.mean((2, 3))) == pytest.approx(1)
    assert speed(still, ((0, 3), (3, 6), (6, 9))) == 0
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    likeness = torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert cscv(features) == pytest.approx(float(1 / (1 + 10 * likeness.std(correction=0) / likeness.mean())))


def test_a_prompt_is_followed_where_it_fits_best() -> None:
    colours = torch.eye(3).repeat_interleave(2, dim=0)[:, :, None, None].expand(-1, -1, SIDE, SIDE)
    said = Board("colours", parse_script("a red\na green\n[cut]\na green"))
    seen = look_at(RealFilm(said, colours, None, ((0, 2), (2, 4), (4, 6)), 1.0), colour_eye())
    assert list(seen.clip_t) == pytest.approx([1, 1, 0])
    assert list(seen.ranked) == [True, True, False]


def test_a_subject_is_compared_by_its_crops_alone() -> None:
    frames, masks = torch.rand(6, 3, SIDE, SIDE), torch.zeros(6, SIDE, SIDE)
    masks[:, 4:12, 6:10] = 1
    red = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    frames[:, :, 4:12, 6:10] = red
    crop = subject_crop(frames[0], masks[0])
    assert crop is not None and crop.shape == (3, 8, 8)
    assert torch.equal(crop[:, :, 2:6], red.expand(3, 8, 4)) and (crop[:, :, :2] == 0.5).all()
    assert subject_crop(frames[0], torch.zeros(SIDE, SIDE)) is None
    same = look_at(film(frames, masks), blind_to_text()).subject
    frames[4:, :, 4:12, 6:10] = red.flip(0)
    other = look_at(film(frames, masks), blind_to_text()).subject
    assert same == pytest.approx(1) and other is not None and other < 0.95
    assert look_at(film(frames, torch.zeros_like(masks)), blind_to_text()).subject is None


def test_only_other_scenes_can_leak_and_only_joins_without_a_cut_have_seams() -> None:
    frames = torch.zeros(9, 3, SIDE, SIDE)
    frames[6:] = 1
    assert rim_likeness(film(frames)) == [0]
    assert rim_likeness(film(torch.zeros(9, 3, SIDE, SIDE))) == [1]
    steps = torch.arange(9).reshape(9, 1, 1, 1) / 20 * torch.ones(1, 3, SIDE, SIDE)
    assert seams(film(steps)) == pytest.approx([1])
    steps[3:] += 0.3
    assert seams(film(steps)) == pytest.approx([7])


def test_cscv_is_told_only_beside_what_it_is_blind_to() -> None:
    with_text = Seen(0.9, [0.3], [True], None, 0.1, [0.5], [], 1.0)
    without = Seen(0.9, [], [], None, 0.1, [0.25], [], 1.0)
    eye, lite = colour_eye(), Eye("lite", lambda frames: frames.mean((2, 3)))
    told = summary({"a": with_text}, {"a": without}, eye)
    assert (told["cscv"], told["cscv_lite"], told["motion"], told["leak"]) == (0.9, None, 1, 0.25)
    assert summary({"a": without}, {"a": without}, eye)["cscv"] is None
    assert summary({"a": with_text}, {}, eye)["cscv"] is None
    assert summary({"a": without}, {"a": without}, lite)["cscv_lite"] == 0.9


def test_finished_films_are_kept_for_the_same_question_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.real.pack_version", lambda: "1")
    file, seen = tmp_path / "kept.jsonl", Seen(None, [0.5], [True], 0.25, 0.1, [], [1.5], 2.0)
    KeptFilms(file, "a").put("film", seen)
    assert KeptFilms(file, "a").get("film") == seen
    assert KeptFilms(file, "b").get("film") is None and KeptFilms(file, "a").get("other") is None


def test_every_typed_seed_is_replaced_and_the_films_pictures_are_found() -> None:
    workflow = {
        "1": {"class_type": "RandomNoise", "inputs": {"noise_seed": 5}},
        "2": {"class_type": "KSampler", "inputs": {"seed": ["9", 0]}},
        "3": {"class_type": "VAEDecodeTiled", "inputs": {}},
        "4": {"class_type": "AttentionMaskPreview", "inputs": {"images": ["3", 0]}},
        "5": {"class_type": "CreateVideo", "inputs": {"images": ["4", 0]}},
        "6": {"class_type": "SaveImage", "inputs": {"images": ["3", 0]}},
    }
    before = copy.deepcopy(workflow)
    assert seeded(workflow, 7)["1"]["inputs"] == {"noise_seed": 7} and seeded(workflow, 7)["2"] == workflow["2"]
    assert pictures_of(workflow) == ["3", 0] and workflow == before
    with pytest.raises(ValueError, match="this workflow has none; name it with --frames"):
        pictures_of({"1": workflow["1"]})


@pytest.fixture
def studio(server: Server) -> Studio:
    """The smallest example on a real server, at two steps."""
    saved = json.loads((ROOT / "example_workflows" / "First light.json").read_text(encoding="utf-8"))
    template = client.to_api_format(saved, client.object_info(server.url))
    (sampler,) = nodes_of(template, "KSampler")
    template[sampler]["inputs"]["steps"] = 2
    return Studio(server.url, template)


def test_every_way_is_made_of_one_workflow_on_a_running_comfyui(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (studio.facts.blocks, studio.facts.steps) == (8, 2)
    made: dict[Way, RealFilm] = {}
    make = studio.make

    def remember(board: Board, way: Way, seed: int) -> RealFilm:
        made[way] = make(board, way, seed)
        return made[way]

    monkeypatch.setattr(studio, "make", remember)
    films = make_films(studio, [BOARD], WAYS, 3, blind_to_text(), KeptFilms(None, ""))
    assert set(films) == set(made) >= {"isolated", "windows", "ditctrl", "kvshare"}
    (row, *_) = rows(films, [BOARD], blind_to_text())
    assert row["way"] == "isolated" and row["motion"] == pytest.approx(1) and row["leak"] == pytest.approx(0)
    for way, film in made.items():
        assert film.spans[-1][1] == len(film.frames)
        assert (film.masks is None) == (way == "core_windows")
    shared = made["kvshare"]
    assert not torch.equal(made["windows"].frames, shared.frames)
    assert not torch.equal(made["windows"].frames, made["ditctrl"].frames)
    assert torch.equal(make(BOARD, "kvshare", 3).frames, shared.frames)
    assert shared.masks is not None and shared.masks.shape == shared.frames[:, 0].shape
    assert 0 < float(shared.masks.mean()) < 1


def test_a_film_without_a_subject_asks_for_no_masks(studio: Studio) -> None:
    plain = Board("plain", parse_script("a circle moving right\na circle moving left"))
    assert MASKS not in studio.workflow(plain, "kvshare", 1) and FRAMES in studio.workflow(plain, "kvshare", 1)
