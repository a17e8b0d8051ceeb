"""The attention benchmark: all variants compute the same result, and its memory meter and bound are right."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.attention import (
    FRACTIONS,
    PATHS,
    ROPE_THETA,
    SHAPES,
    TOLERANCE,
    Problem,
    Shape,
    SharingPath,
    blob_mask,
    bound,
    dense,
    main,
    make_problem,
    map_calls,
    ours,
    relative_error,
    volume,
)
from bench.meters import StorageMeter, median_seconds, peak_extra_bytes
from kvshare_core.attention.log_sum_exp import LogSumExpAttention
from kvshare_core.attention.rope import embed_nd_scheme
from kvshare_core.subject import maps
from tests.oracles.dense_reference import dense_attention, sharing_bias

CPU = torch.device("cpu")
JOINT = Shape("joint", 3, 8, (4, 2, 2), (2, 4, 5), (2, 4, 5), (2, 4, 5), text=6)
VIDEO = Shape("video", 2, 8, (4, 2, 2), (2, 4, 5), (2, 4, 5), (2, 4, 5))
REPLACE, EXTEND, SWAP = PATHS
COLUMNS = {
    *("shape", "path", "p", "length", "text", "device", "dtype", "plain_s", "dense_s", "ours_s", "ours_over_plain"),
    *("bound", "ours_over_bound", "dense_over_ours", "max_error", "plain_mib", "dense_mib", "ours_mib"),
    *("dense_mib_ratio", "ours_mib_ratio", "lse_over_plain", "map_over_attention", "map_over_cross"),
}


def small(shape: Shape, fraction: float) -> Problem:
    return make_problem(shape, shape.grid, fraction, CPU, seed=4)


def named(case: object) -> str | None:
    return case.name if isinstance(case, (Shape, SharingPath)) else None


def test_a_quick_run_has_every_figure_of_every_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "attention.json"
    monkeypatch.setattr("sys.argv", ["attention", "--quick", "--device", "cpu", "--json", str(file)])
    main()
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    cases = {(row["shape"], row["path"], row["p"]) for row in rows}
    assert cases == {(shape.name, path.name, p) for shape in SHAPES for path in PATHS for p in FRACTIONS}
    for row in rows:
        assert set(row) == COLUMNS
        assert (row["map_over_cross"] is None) == (row["text"] > 0)
        missing = {"map_over_cross"} if row["text"] else {"text"}
        assert all(row[column] for column in COLUMNS - missing - {"max_error"})
        assert row["max_error"] <= TOLERANCE[torch.float32]
        assert row["ours_mib_ratio"] == pytest.approx(2, abs=0.02)
        assert row["dense_over_ours"] * row["ours_over_plain"] == pytest.approx(row["dense_s"] / row["plain_s"])
        assert row["ours_over_bound"] * row["bound"] == pytest.approx(row["ours_over_plain"])


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("path", PATHS, ids=named)
@pytest.mark.parametrize("shape", [JOINT, VIDEO], ids=named)
def test_ours_equals_the_dense_passes(shape: Shape, path: SharingPath, fraction: float) -> None:
    problem = small(shape, fraction)
    found = ours(problem, path, LogSumExpAttention())
    torch.testing.assert_close(found, dense(problem, path), rtol=0, atol=1e-5)


@pytest.mark.parametrize("path", PATHS, ids=named)
def test_the_dense_passes_equal_attention_written_out(path: SharingPath) -> None:
    path = replace(path, config=replace(path.config, position="same"))
    problem = small(VIDEO, 0.3)
    tokens = len(problem.mask)
    bias = sharing_bias(path.settings(0), tokens, problem.mask, [problem.source_mask])
    key = torch.cat([problem.key, problem.source_key], 2)
    value = torch.cat([problem.value, problem.source_value], 2)
    expected = dense_attention(problem.query, key, value, bias=bias)
    torch.testing.assert_close(dense(problem, path).transpose(1, 2).flatten(2).double(), expected, rtol=0, atol=1e-5)


def test_text_queries_of_a_joint_call_attend_to_all_of_the_source() -> None:
    problem = small(JOINT, 0.3)
    expected = dense_attention(problem.query[:, :, :6], problem.source_key, problem.source_value)
    found = dense(problem, REPLACE)[:, :, :6]
    torch.testing.assert_close(found.transpose(1, 2).flatten(2).double(), expected, rtol=0, atol=1e-5)


def test_times_of_different_results_are_not_compared() -> None:
    expected = torch.tensor([1.0, -4.0])
    assert relative_error(expected + torch.tensor([0.0, 1e-4]), expected) == pytest.approx(2.5e-5, rel=0.01)
    for wrong in (expected + 0.01, expected * float("nan")):
        with pytest.raises(RuntimeError, match="ours and the dense passes differ"):
            relative_error(wrong, expected)


def test_the_bound_counts_scored_pairs() -> None:
    masks = {"mask": torch.tensor([True, False, False, False]), "source_mask": torch.tensor([True, True, False, False])}
    tensors = [torch.zeros(1, 1, 6, 1)] * 5
    joint = Problem(*tensors, **masks, text=2, grid=(1, 2, 2), scheme=embed_nd_scheme((0, 0, 0), ROPE_THETA))
    # 1 x 2 subject pairs, 3 x 2 background pairs, 4 video queries over 2 text tokens, 2 text queries over all 6.
    assert bound(joint, REPLACE) == pytest.approx((2 + 6 + 8 + 12) / 36)
    assert bound(joint, EXTEND) == bound(joint, SWAP) == pytest.approx((36 + 2) / 36)
    video = replace(joint, query=torch.zeros(1, 1, 4, 1), text=0)
    assert bound(video, REPLACE) == pytest.approx((2 + 6) / 16)


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_without_text_the_bound_depends_on_the_fraction_alone(fraction: float) -> None:
    problem = small(VIDEO, fraction)
    assert bound(problem, REPLACE) == pytest.approx(fraction**2 + (1 - fraction) ** 2)
    assert bound(problem, EXTEND) == pytest.approx(1 + fraction**2)


def test_the_meter_counts_what_is_alive_at_once() -> None:
    values = torch.zeros(1000)
    size = values.nbytes

    def frees_in_between() -> torch.Tensor:
        first = values + 1
        second = first * 2
        del first
        return second - 1

    def keeps_everything() -> torch.Tensor:
        return torch.stack([values + 1, values + 2])

    def makes_nothing() -> torch.Tensor:
        return values.add_(0)[:10].view(2, 5).t()

    assert peak_extra_bytes(frees_in_between, CPU) == 2 * size
    assert peak_extra_bytes(keeps_everything, CPU) == 4 * size
    assert peak_extra_bytes(makes_nothing, CPU) == 0


def test_the_meter_counts_a_storage_once_and_until_its_last_view_is_gone() -> None:
    with StorageMeter() as meter:
        whole = torch.zeros(100)
        part = whole[:10]
        del whole
        assert meter.live_bytes == 400
        part.add_(1)
        del part
        assert meter.live_bytes == 0
        torch.zeros(50)
    assert meter.peak_bytes == 400


def test_the_meter_sees_a_mask_of_every_query_and_key() -> None:
    problem = small(VIDEO, 0.5)
    pairs = len(problem.mask) ** 2 * 4
    assert peak_extra_bytes(lambda: dense(problem, REPLACE), CPU) > pairs


def test_calls_take_turns_and_the_first_round_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    order: list[str] = []
    durations = {"a": iter([50.0, 1.0, 9.0, 2.0]), "b": iter([70.0, 5.0, 4.0, 6.0])}

    def lasts(name: str) -> torch.Tensor:
        order.append(name)
        clock[0] += next(durations[name])
        return torch.zeros(())

    monkeypatch.setattr("bench.meters.time.perf_counter", lambda: clock[0])
    seconds = median_seconds({"a": lambda: lasts("a"), "b": lambda: lasts("b")}, 3, CPU)
    assert order == ["a", "b"] * 4
    assert seconds == {"a": 2.0, "b": 5.0}


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.33, 1.0])
def test_masks_have_the_fraction_and_follow_the_seed(fraction: float) -> None:
    grid = (3, 10, 10)
    first, again, other = (blob_mask(grid, fraction, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.sum() == other.sum() == round(fraction * volume(grid))
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (fraction in (0.0, 1.0))


def test_the_subject_holds_together() -> None:
    frames = blob_mask((3, 20, 20), 0.3, torch.Generator().manual_seed(0)).reshape(3, 20, 20)
    right = (frames[:, :, 1:] == frames[:, :, :-1]).float().mean()
    assert right > 0.8  # Tokens drawn one by one would agree with their neighbour in 0.58 of all cases.


def test_joint_text_keeps_its_share_on_smaller_grids() -> None:
    cogvideo, wan = SHAPES
    assert [cogvideo.text_beside(grid) for grid in (cogvideo.grid, cogvideo.cpu_grid)] == [226, 45]
    assert (volume(cogvideo.grid), volume(wan.grid)) == (17550, 32760)
    assert wan.text_beside(wan.grid) == 0
    for shape in SHAPES:
        assert all(grid[1] % 2 == 0 for grid in (shape.grid, shape.cpu_grid, shape.quick_grid))


@pytest.mark.parametrize("chunk", [1, 1 << 11, 1 << 22])
@pytest.mark.parametrize("shape", [replace(JOINT, text=30), VIDEO], ids=named)
def test_the_maps_that_are_timed_are_exact(shape: Shape, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "MAP_CHUNK_ELEMENTS", chunk)
    problem = small(shape, 0.3)
    calls = map_calls(problem, shape, LogSumExpAttention(), seed=9)
    found = calls["map"]()
    assert found.shape == (1, len(problem.mask), 20)
    if problem.text:
        scores = problem.query.double() @ problem.key.double().transpose(-1, -2) * shape.head_dim**-0.5
        expected = scores.softmax(-1).mean(1)[:, problem.video, :20]
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(calls["lse"](), scores.softmax(-1).float() @ problem.value, rtol=0, atol=1e-5)
    else:
        torch.testing.assert_close(found.sum(-1), torch.ones(1, len(problem.mask)))
