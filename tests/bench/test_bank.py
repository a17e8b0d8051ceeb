"""The bank's benchmark: its figures for real runs, and its loop of transfers, on this machine."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention as attention

from bench.bank import (
    CASES,
    COLUMNS,
    GUIDANCES,
    OVERLAP,
    PROMPTS,
    QUICK_CASES,
    SUBJECT,
    WAN,
    WAYS,
    Case,
    ForwardShape,
    RoundTrip,
    WitnessBank,
    hidden_share,
    measure_runs,
    measure_transfers,
    psnr,
    row,
    run_case,
    run_forwards,
    transfers_left_out,
)
from bench.form import Row, make_result
from bench.methods import Method
from bench.pipeline import Pipeline
from kvshare_core.bank.bank import BankEntry, BankKey, KeyValueBank, StoredTokens
from kvshare_core.bank.fp8 import quantisation_error, quantise, restore
from kvshare_core.config import SOURCES, MemorySettings

SMALL = ForwardShape(heads=2, head_dim=8, tokens=20, subject=0.3, blocks=3, rows=2, dtype=torch.float32)
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]


@pytest.fixture(scope="module")
def pipeline(host: Path) -> Pipeline:
    """The embedded model on the host under test."""
    from kvshare_core.host.loading.loading import EMBEDDED, load_video_model

    return Pipeline(host, *load_video_model(EMBEDDED, EMBEDDED, EMBEDDED, "default"))


@pytest.fixture(scope="module")
def rows(pipeline: Pipeline) -> list[Row]:
    """Rows of the quick cases, in two steps."""
    return measure_runs(pipeline, QUICK_CASES, 2, 0, lambda done, total: None)


def test_every_source_and_guidance_is_run_and_some_with_their_background() -> None:
    without = {(case.sources, case.guidance) for case in CASES if not case.background}
    assert without == {(sources, guidance) for sources in SOURCES for guidance in GUIDANCES}
    assert {case.guidance for case in CASES if case.background} == {"mask", "words"}
    assert len(set(CASES)) == len(CASES)
    assert [case.guidance for case in QUICK_CASES] == list(GUIDANCES)


def test_runs_hold_what_they_said_and_found_subjects_less(rows: list[Row]) -> None:
    assert [(entry["guidance"], entry["dtype"]) for entry in rows] == [
        (guidance, dtype) for guidance in GUIDANCES for dtype in ("model", "fp8")
    ]
    for entry in rows:
        if entry["guidance"] == "words":
            assert entry["prediction"] == "at most"
            assert 0 < entry["held_over_predicted"] < 1
        else:
            assert entry["prediction"] == "exact"
            assert entry["held_over_predicted"] == 1
    held = {(entry["guidance"], entry["dtype"]): entry["held_mib"] for entry in rows}
    assert held["mask", "model"] == pytest.approx(held["nothing", "model"] / 4)
    for guidance in GUIDANCES:
        assert held[guidance, "fp8"] < 0.6 * held[guidance, "model"]


def test_only_eight_bits_change_keys_and_pictures(rows: list[Row]) -> None:
    for entry in rows:
        errors = (entry["key_error"], entry["value_error"])
        if entry["dtype"] == "model":
            assert (*errors, entry["psnr_to_model"]) == (0, 0, None)
        else:
            assert all(0.01 < error < 0.04 for error in errors)
            assert entry["psnr_to_model"] > 30


def test_the_figure_is_the_one_in_the_log_and_measuring_changes_nothing(
    pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    case = Case("previous", "words", background=True)
    with caplog.at_level(logging.INFO, logger="kvshare"):
        run = run_case(pipeline, case, "fp8", steps=1, seed=3)
    (said,) = [entry for entry in caplog.records if "MiB of keys and values" in entry.getMessage()]
    assert f"holds at most {run.said_bytes / 2**20:.1f} MiB" in said.getMessage()
    assert not run.exact
    plain = pipeline.generate(
        PROMPTS, seed=3, overlap=OVERLAP, method=Method(case.config("fp8")), subject=SUBJECT, steps=1
    )
    assert torch.equal(run.frames, plain.frames)


def test_the_round_trip_error_is_that_of_quantisation() -> None:
    def stored(tokens: int) -> StoredTokens:
        return StoredTokens(torch.randn(1, 2, tokens, 8), torch.randn(1, 2, tokens, 8) * 5, torch.arange(tokens))

    key = BankKey(0, 0, (0, 0), 0)
    entry = BankEntry((stored(6),), stored(9))
    bank = WitnessBank(MemorySettings(dtype="fp8"))
    assert bank.get(key) is None
    assert (bank.keys.error, bank.values.error) == (None, None)
    bank.put(key, entry, 2)
    bank.get(key)
    bank.get(key)
    for name, measured in (("key", bank.keys.error), ("value", bank.values.error)):
        tensors = [getattr(part, name) for part in (entry.subjects[0], entry.background)]
        restored = [restore(*quantise(tensor), tensor.dtype) for tensor in tensors]
        expected = quantisation_error(torch.cat(tensors, 2), torch.cat(restored, 2))
        assert measured == pytest.approx(expected)


def test_the_error_is_relative_to_all_that_was_put() -> None:
    trip = RoundTrip()
    trip.add(torch.tensor([3.0, 0.0]), torch.tensor([3.0, 0.0]))
    trip.add(torch.tensor([4.0]), torch.tensor([4.5]))
    assert trip.error == pytest.approx(0.1)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("way", WAYS)
def test_the_loop_attends_to_what_the_segment_before_left(way: str, device: str) -> None:
    run = run_forwards(SMALL, torch.device(device), way, forwards=2, seed=4)
    generator = torch.Generator(device).manual_seed(4)
    query, key, value = (torch.randn(2, 2, 20, 8, generator=generator, device=device) for _ in range(3))
    # Every segment has the same keys here, so the subject sees its own twice.
    subject, others = query.split([6, 14], 2)
    seen = attention(subject, torch.cat([key, key[:, :, :6]], 2), torch.cat([value, value[:, :, :6]], 2))
    torch.testing.assert_close(run.output, torch.cat([seen, attention(others, key, value)], 2), rtol=1e-4, atol=1e-5)
    assert run.held_bytes == SMALL.bank_bytes
    assert run.milliseconds > 0


@pytest.mark.parametrize("way", WAYS)
def test_only_one_way_fetches_and_everything_ahead_of_its_reader(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[BankKey] = []
    read: list[tuple[BankKey, bool]] = []

    class Observed(KeyValueBank):
        def prefetch(self, keys: Sequence[BankKey]) -> None:
            fetched.extend(keys)
            super().prefetch(keys)

        def get(self, key: BankKey) -> BankEntry | None:
            read.append((key, key in fetched))
            return super().get(key)

    monkeypatch.setattr("bench.bank.KeyValueBank", Observed)
    run_forwards(SMALL, torch.device("cpu"), way, forwards=2, seed=0)
    assert len(read) == 4 * SMALL.blocks * SMALL.rows
    assert {ahead for _, ahead in read} == {way == "fetched ahead"}
    assert len(fetched) == (len(read) if way == "fetched ahead" else 0)


@pytest.mark.parametrize("device", DEVICES)
def test_transfers_have_one_row_for_each_way(device: str) -> None:
    found = measure_transfers(SMALL, torch.device(device), 2, 0)
    assert [entry["case"] for entry in found] == [f"Wan 1.3B, {way}" for way in WAYS]
    assert all(entry["held_over_predicted"] == 1 and entry["device"] == device for entry in found)
    ahead = found[WAYS.index("fetched ahead")]
    assert (ahead["hidden_share"] is None) == (ahead["note"] == "nothing to hide")
    assert [entry["hidden_share"] for entry in found if entry is not ahead] == [None, None]
    assert make_result("bank", 0, [*found, transfers_left_out("cpu")], None).rows


def test_the_hidden_share_is_of_the_time_that_waiting_costs() -> None:
    assert hidden_share(on_device=10, ahead=10, asked=14) == 1
    assert hidden_share(on_device=10, ahead=14, asked=14) == 0
    assert hidden_share(on_device=10, ahead=11, asked=14) == 0.75
    assert hidden_share(on_device=10, ahead=10, asked=10) is None


def test_the_shape_is_a_window_of_wan() -> None:
    assert WAN.subject_tokens == 9828
    assert WAN.bank_bytes == 10 * 2 * (2 * 12 * 9828 * 128 * 2 + 8 * 9828)


def test_pictures_are_compared_in_decibels() -> None:
    video = torch.rand(2, 3, 4, 4)
    assert psnr(video, video) is None
    assert psnr(video + 0.1, video) == pytest.approx(20, abs=1e-4)


def test_rows_have_all_columns_and_no_others() -> None:
    assert list(row(note="why", case="what")) == list(COLUMNS)
    assert row(case="what")["held_mib"] is None
    with pytest.raises(ValueError, match=r"no columns \['hidden'\]"):
        row(hidden=1.0)
