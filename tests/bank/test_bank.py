"""The key/value bank returns what it was given, holds as many bytes as predicted, and releases entries in time."""

import math
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kvshare_core.bank.bank import BankEntry, BankKey, KeyValueBank, StoredTokens
from kvshare_core.bank.fp8 import quantisation_error, quantise, restore
from kvshare_core.bank.pinned_memory import PAGE_BYTES, SLAB_PAGES
from kvshare_core.config import MemorySettings
from kvshare_core.plan.bank_size import BankUse, TokenCounts, count_consumers, predict_bytes
from tests.support.away_bank import AwayBank, Streams

CPU = torch.device("cpu")
FP8 = MemorySettings(dtype="fp8")
AWAY = MemorySettings(place="cpu")
KEY = BankKey(0, 3, (0, 0), 0)
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def stored(
    tokens: int, heads: int = 2, head_dim: int = 4, dtype: torch.dtype = torch.float32, device: torch.device = CPU
) -> StoredTokens:
    """Gaussian keys and values of every second token."""
    key, value = torch.randn(2, 1, heads, tokens, head_dim, device=device, dtype=torch.float32).to(dtype)
    return StoredTokens(key.clone(), value.clone(), torch.arange(tokens) * 2)


def full_entry(tokens: int, dtype: torch.dtype = torch.float32, device: torch.device = CPU) -> BankEntry:
    """An entry with every part, of `tokens`, tokens + 1 and 2 tokens."""
    sizes = (tokens, tokens + 1, 2)
    subject, background, text = (stored(size, dtype=dtype, device=device) for size in sizes)
    return BankEntry((subject,), background, text)


def tensors_of(entry: BankEntry) -> list[torch.Tensor]:
    """All tensors of an entry, parts in the order of their declaration."""
    return [tensor for part in entry.parts if part is not None for tensor in (part.key, part.value, part.tokens)]


def assert_same(found: BankEntry | None, expected: BankEntry) -> None:
    """Equal bit for bit, in the same dtypes, on the same devices."""
    assert found is not None
    for one, other in zip(tensors_of(found), tensors_of(expected), strict=True):
        assert (one.dtype, one.device) == (other.dtype, other.device)
        assert torch.equal(one, other)


def size_of(entry: BankEntry) -> int:
    """Bytes that an entry's tensors occupy."""
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors_of(entry))


BANKS: list[Callable[[], KeyValueBank]] = [
    KeyValueBank,
    lambda: KeyValueBank(AWAY),
    lambda: AwayBank(AWAY),
    lambda: AwayBank(MemorySettings(), budget_bytes=200),
]


@pytest.mark.parametrize("make_bank", BANKS, ids=["device", "cpu on cpu", "away", "auto"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_entries_come_back_bit_for_bit_for_every_reader_and_are_gone_after_the_last(
    make_bank: Callable[[], KeyValueBank], dtype: torch.dtype
) -> None:
    bank = make_bank()
    keys = [KEY._replace(row=row) for row in range(3)]
    entries = [full_entry(4 + row, dtype) for row in range(3)]
    for key, entry in zip(keys, entries, strict=True):
        bank.put(key, entry, consumers=2)
    assert len(bank) == 3
    assert bank.held_bytes == sum(size_of(entry) for entry in entries)
    for _ in range(2):
        for key, entry in zip(keys, entries, strict=True):
            assert_same(bank.get(key), entry)
    assert all(bank.get(key) is None for key in keys)
    assert (len(bank), bank.held_bytes, bank.device_bytes) == (0, 0, 0)
    assert bank.peak_bytes == sum(size_of(entry) for entry in entries)


@given(st.lists(st.booleans(), min_size=3, max_size=6))
def test_an_entry_is_made_of_its_parts(present: list[bool]) -> None:
    *subjects, background, text = (stored(2) if there else None for there in present)
    entry = BankEntry(tuple(subjects), background, text)
    assert [part is not None for part in entry.parts] == present
    again = BankEntry.of_parts(entry.parts)
    assert (again.subjects, again.background, again.text) == (entry.subjects, entry.background, entry.text)


def test_entries_that_the_cpu_computes_with_are_not_moved() -> None:
    bank, entry = KeyValueBank(AWAY), full_entry(4)
    bank.put(KEY, entry, consumers=1)
    found = bank.get(KEY)
    assert bank.reserved_bytes == 0
    assert found is not None and found.text is not None and entry.text is not None
    assert found.text.key.data_ptr() == entry.text.key.data_ptr()


class LaneWithoutCopies:
    """Takes tensors as they are, in place of a HostLane."""

    made: ClassVar[list[torch.device]] = []
    allocated_bytes = 0

    def __init__(self, device: torch.device, slabs: Any):
        self.made.append(device)

    def save(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        return tensors

    fetch = save

    def hand_over(self, tensors: list[torch.Tensor], to_take_back: bool) -> list[torch.Tensor]:
        assert to_take_back
        return tensors

    def release(self, tensors: list[torch.Tensor]) -> None:
        pass


def test_each_device_has_one_lane_to_the_computers_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kv_share.kvshare_core.bank.bank.HostLane", LaneWithoutCopies)
    monkeypatch.setattr(LaneWithoutCopies, "made", [])
    device = torch.device("meta")
    bank = KeyValueBank(AWAY)
    for row in range(2):
        bank.put(KEY._replace(row=row), full_entry(3, device=device), consumers=1)
    assert LaneWithoutCopies.made == [device]
    found = bank.get(KEY)
    assert found is not None and [part.key.device for part in found.parts if part is not None] == [device] * 3


def test_every_part_of_a_key_tells_entries_apart() -> None:
    bank = KeyValueBank()
    keys = [KEY, KEY._replace(segment=1), KEY._replace(block=0), KEY._replace(chunk=(1, 0)), KEY._replace(row=1)]
    entries = [full_entry(3) for _ in keys]
    for key, entry in zip(keys, entries, strict=True):
        bank.put(key, entry, consumers=1)
    for key, entry in zip(keys, entries, strict=True):
        assert_same(bank.get(key), entry)


def test_views_of_a_bigger_buffer_do_not_keep_it_alive() -> None:
    buffer = torch.randn(1, 2, 300, 4)
    places = torch.arange(300)
    view = StoredTokens(buffer[:, :, :3], buffer[:, :, 3:6], places[:3])
    bank = KeyValueBank()
    bank.put(KEY, BankEntry((view,)), consumers=1)
    found = bank.get(KEY)
    assert_same(found, BankEntry((view,)))
    assert found is not None
    assert size_of(found) == 2 * 2 * 3 * 4 * 4 + 3 * 8


def test_tensors_that_own_their_bytes_are_kept_without_a_copy() -> None:
    index = torch.tensor([0, 5, 7])
    key, value = (torch.randn(1, 2, 9, 4).index_select(2, index) for _ in range(2))
    flat = torch.randn(1, 3, 8)
    split = flat.unflatten(-1, (2, 4)).transpose(1, 2)
    bank = KeyValueBank()
    bank.put(KEY, BankEntry((StoredTokens(key, value, index),), StoredTokens(split, split, index)), consumers=1)
    found = bank.get(KEY)
    assert found is not None and found.background is not None
    assert (found.subjects[0].key.data_ptr(), found.subjects[0].value.data_ptr()) == (key.data_ptr(), value.data_ptr())
    assert found.background.key.data_ptr() == flat.data_ptr()


@pytest.mark.parametrize("make_bank", BANKS, ids=["device", "cpu on cpu", "away", "auto"])
def test_an_entry_replaces_the_one_of_its_key_and_its_bytes(make_bank: Callable[[], KeyValueBank]) -> None:
    bank = make_bank()
    smaller = full_entry(2)
    bank.put(KEY, full_entry(50), consumers=3)
    peak = bank.peak_bytes
    bank.put(KEY, smaller, consumers=1)
    assert (len(bank), bank.held_bytes, bank.peak_bytes) == (1, size_of(smaller), peak)
    assert_same(bank.get(KEY), smaller)
    assert bank.get(KEY) is None


def test_an_entry_without_consumers_is_not_stored() -> None:
    bank = KeyValueBank()
    bank.put(KEY, full_entry(2), consumers=1)
    bank.put(KEY, full_entry(2), consumers=0)
    assert (len(bank), bank.held_bytes) == (0, 0)
    with pytest.raises(ValueError, match="-1 consumers"):
        bank.put(KEY, full_entry(2), consumers=-1)


def test_parts_of_differing_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[3, 4\] tokens"):
        StoredTokens(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4), torch.arange(4))


@pytest.mark.parametrize("make_bank", BANKS, ids=["device", "cpu on cpu", "away", "auto"])
def test_segments_are_released_and_the_peak_outlives_them(make_bank: Callable[[], KeyValueBank]) -> None:
    bank = make_bank()
    entries = [full_entry(3 + segment) for segment in range(4)]
    for segment, entry in enumerate(entries):
        bank.put(KEY._replace(segment=segment), entry, consumers=5)
    bank.prefetch([KEY._replace(segment=1), KEY._replace(segment=2)])
    bank.keep_segments(lambda segment: segment in {0, 2})
    assert bank.held_bytes == size_of(entries[0]) + size_of(entries[2])
    assert_same(bank.get(KEY._replace(segment=2)), entries[2])
    assert bank.get(KEY._replace(segment=1)) is None
    bank.clear()
    assert (len(bank), bank.held_bytes, bank.device_bytes) == (0, 0, 0)
    assert bank.peak_bytes == sum(size_of(entry) for entry in entries)


def test_auto_keeps_on_the_device_what_fits_its_budget_and_the_rest_away() -> None:
    entry = BankEntry((stored(4),))
    size = 2 * entry.subjects[0].key.nbytes
    bank = AwayBank(MemorySettings(place="auto"), budget_bytes=2 * size)
    for row in range(4):
        bank.put(KEY._replace(row=row), entry, consumers=1)
    assert (bank.device_bytes, bank.held_bytes) == (2 * size, 4 * size_of(entry))
    bank.get(KEY)
    bank.put(KEY._replace(row=9), entry, consumers=1)
    assert (bank.device_bytes, bank.peak_device_bytes) == (2 * size, 2 * size)


@pytest.mark.parametrize(
    ("place", "budget", "on_device"),
    [("auto", None, True), ("auto", 0, False), ("device", 0, True), ("cpu", None, False)],
)
def test_places_and_budgets_decide_where_an_entry_stays(place: str, budget: int | None, on_device: bool) -> None:
    bank = AwayBank(MemorySettings(place=place), budget_bytes=budget)
    bank.put(KEY, full_entry(4), consumers=1)
    assert (bank.device_bytes > 0) is on_device
    assert (bank.reserved_bytes == 0) is on_device


@pytest.mark.parametrize("memory", [AWAY, replace(AWAY, dtype="fp8")], ids=["model", "fp8"])
def test_a_prefetched_copy_counts_on_the_device_until_it_is_handed_out(memory: MemorySettings) -> None:
    entry = full_entry(6)
    bank = AwayBank(memory)
    bank.put(KEY, entry, consumers=2)
    held = bank.held_bytes
    assert bank.device_bytes == 0
    bank.prefetch([KEY._replace(row=7), KEY, KEY])
    payload = held - sum(tensor.nbytes for tensor in tensors_of(entry) if tensor.dtype == torch.int64)
    assert (bank.device_bytes, bank.held_bytes) == (payload, held)
    first = bank.get(KEY)
    assert (bank.device_bytes, bank.held_bytes) == (0, held)
    second = bank.get(KEY)
    assert (bank.held_bytes, bank.peak_device_bytes) == (0, payload)
    assert first is not None and second is not None
    assert_same(first, second)


def test_prefetching_what_is_on_the_device_changes_nothing() -> None:
    bank = AwayBank(MemorySettings(place="device"))
    entry = full_entry(3)
    bank.put(KEY, entry, consumers=1)
    before = bank.device_bytes
    bank.prefetch([KEY])
    assert bank.device_bytes == before
    assert_same(bank.get(KEY), entry)


@given(st.lists(st.lists(st.integers(0, 3 * PAGE_BYTES // 16), min_size=1, max_size=3), min_size=2, max_size=4))
@example([[3 * PAGE_BYTES // 16] * 3] * 4)
@settings(max_examples=20)
def test_memory_off_the_device_is_reused_by_entries_of_other_sizes(passes: list[list[int]]) -> None:
    bank = AwayBank(AWAY)
    most_pages = 0
    for sizes in passes:
        entries = [BankEntry((stored(tokens, heads=1, head_dim=2),)) for tokens in sizes]
        for row, entry in enumerate(entries):
            bank.put(KEY._replace(row=row), entry, consumers=1)
        pages = sum(-(-2 * entry.subjects[0].key.nbytes // PAGE_BYTES) for entry in entries)
        most_pages = max(most_pages, pages)
        assert bank.reserved_bytes == -(-most_pages // SLAB_PAGES) * SLAB_PAGES * PAGE_BYTES
        for row, entry in enumerate(entries):
            assert_same(bank.get(KEY._replace(row=row)), entry)


def test_entries_may_be_put_and_read_inside_and_outside_of_inference_mode() -> None:
    bank = AwayBank(AWAY)
    for inside in (True, False, True):
        with torch.inference_mode(inside):
            entry = full_entry(5)
            bank.put(KEY, entry, consumers=2)
            assert_same(bank.get(KEY), entry)
        with torch.inference_mode(not inside):
            assert_same(bank.get(KEY), entry)


@pytest.mark.parametrize("memory", [MemorySettings(), FP8, AWAY, replace(AWAY, dtype="fp8")])
def test_gradients_do_not_enter_the_bank(memory: MemorySettings) -> None:
    bank = AwayBank(memory)
    key = torch.randn(1, 2, 3, 4, requires_grad=True) * 2
    bank.put(KEY, BankEntry((StoredTokens(key, key, torch.arange(3)),)), consumers=1)
    found = bank.get(KEY)
    assert found is not None and not found.subjects[0].key.requires_grad


@pytest.mark.parametrize("memory", [MemorySettings(), AWAY], ids=["device", "away"])
def test_threads_share_a_bank(memory: MemorySettings) -> None:
    bank = AwayBank(memory)
    entry = full_entry(40)

    def work(row: int) -> None:
        for segment in range(60):
            key = KEY._replace(row=row, segment=segment)
            bank.put(key, entry, consumers=2)
            bank.prefetch([key])
            assert_same(bank.get(key), entry)
            assert_same(bank.get(key), entry)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    assert (len(bank), bank.held_bytes, bank.device_bytes) == (0, 0, 0)
    assert bank.peak_bytes <= 4 * size_of(entry)


class PausingKey(BankKey):
    """A key that calls `pause` whenever its segment is asked for, as a thread may be stopped there."""

    pause: ClassVar[Callable[[], None] | None] = None

    def __getattribute__(self, name: str) -> Any:
        if name == "segment" and PausingKey.pause is not None:
            PausingKey.pause()
        return super().__getattribute__(name)


def test_segments_are_released_while_another_thread_puts_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, entry = KeyValueBank(), full_entry(3)
    for row in range(3):
        bank.put(PausingKey(0, 0, (0, 0), row), entry, consumers=1)
    with ThreadPoolExecutor(1) as other_thread:
        added: list[Future[None]] = []

        def put_in_the_middle() -> None:
            if not added:
                added.append(other_thread.submit(bank.put, BankKey(1, 0, (0, 0), 0), entry, 1))
                # Without a lock it is done at once; with one it can only begin to wait.
                wait(added, timeout=0.2)

        monkeypatch.setattr(PausingKey, "pause", staticmethod(put_in_the_middle))
        bank.keep_segments(lambda segment: segment == 1)
        monkeypatch.undo()
        added[0].result()
    assert len(bank) == 1
    assert bank.held_bytes == size_of(entry)


@pytest.mark.parametrize("dtype", DTYPES)
def test_fp8_halves_or_quarters_the_bytes_and_leaves_text_alone(dtype: torch.dtype) -> None:
    entry = full_entry(500, dtype)
    bank = KeyValueBank(FP8)
    bank.put(KEY, entry, consumers=1)
    numbers = 2 * 2 * 4 * (500 + 501)
    scales = 2 * 2 * 2 * 4
    places = 8 * (500 + 501 + 2)
    assert bank.held_bytes == numbers + scales + places + 2 * 2 * 4 * 2 * dtype.itemsize
    found = bank.get(KEY)
    assert found is not None and found.text is not None and found.background is not None and entry.text is not None
    assert torch.equal(found.text.key, entry.text.key)
    assert (found.subjects[0].key.dtype, found.background.value.dtype) == (dtype, dtype)
    assert 0.0 < quantisation_error(entry.subjects[0].value, found.subjects[0].value) < 0.04


def test_keys_and_values_may_differ_in_dtype() -> None:
    both = stored(5)
    for memory in (MemorySettings(), FP8, AWAY, replace(AWAY, dtype="fp8")):
        bank = AwayBank(memory)
        bank.put(KEY, BankEntry((replace(both, value=both.value.bfloat16()),)), consumers=1)
        found = bank.get(KEY)
        assert found is not None
        assert (found.subjects[0].key.dtype, found.subjects[0].value.dtype) == (torch.float32, torch.bfloat16)


@pytest.mark.parametrize("dtype", DTYPES)
def test_fp8_changes_gaussian_keys_by_two_to_three_percent(dtype: torch.dtype) -> None:
    key = torch.randn(1, 4, 2000, 32, generator=torch.Generator().manual_seed(1)).to(dtype)
    assert 0.02 < quantisation_error(key, restore(*quantise(key), dtype)) < 0.03


@given(st.lists(st.floats(1e-18, 1e18), min_size=2, max_size=4), st.integers(0, 1000))
def test_the_error_of_a_head_does_not_depend_on_its_scale(factors: list[float], seed: int) -> None:
    head = torch.randn(1, 1, 50, 8, generator=torch.Generator().manual_seed(seed))
    heads = torch.cat([head * factor for factor in factors], dim=1)
    found = restore(*quantise(heads), torch.float32)
    alone = quantisation_error(head, restore(*quantise(head), torch.float32))
    for place in range(len(factors)):
        assert quantisation_error(heads[:, place], found[:, place]) == pytest.approx(alone, rel=0.05)


@given(
    st.lists(st.floats(-3e38, 3e38), min_size=1, max_size=30),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
@settings(max_examples=300)
def test_fp8_of_finite_numbers_stays_finite_and_within_its_step(numbers: list[float], dtype: torch.dtype) -> None:
    tensor = torch.tensor(numbers).to(dtype).reshape(1, 1, -1, 1)
    found = restore(*quantise(tensor), torch.float64)
    largest = float(tensor.abs().max())
    # Half a step of e4m3 is at most a sixteenth of a number, or 2**-10 scales where numbers are smallest.
    allowed = tensor.double().abs() / 16 + largest / 448 / 2**10 + 5e-36
    assert ((found - tensor.double()).abs() <= allowed * 1.001).all()


def test_numbers_that_e4m3_has_come_back_exactly() -> None:
    key = torch.tensor([448.0, -416.0, 3.5, 0.0, -(2.0**-9)]).reshape(1, 1, 5, 1)
    stored_key, scale = quantise(key)
    assert (stored_key.dtype, scale.dtype, scale.shape) == (torch.float8_e4m3fn, torch.float32, (1, 1, 1, 1))
    assert torch.equal(restore(stored_key, scale, torch.float32), key)


def test_heads_of_zeros_stay_zeros_beside_others() -> None:
    key = torch.randn(1, 3, 6, 4)
    key[:, 1] = 0.0
    key[:, 2] = 1e-40
    found = restore(*quantise(key), torch.float32)
    assert torch.equal(found[:, 1:], torch.zeros(1, 2, 6, 4))
    assert 0.0 < quantisation_error(key[:, 0], found[:, 0]) < 0.05


@pytest.mark.parametrize("fault", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_shows_in_its_whole_head_and_in_no_other(fault: float) -> None:
    clean = torch.randn(1, 3, 6, 4)
    key = clean.clone()
    key[0, 1, 2, 3] = fault
    found = restore(*quantise(key), torch.float32)
    assert found[:, 1].isnan().all()
    expected = restore(*quantise(clean), torch.float32)
    assert torch.equal(found[:, [0, 2]], expected[:, [0, 2]])


def test_heads_quantised_a_few_at_a_time_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    key = torch.randn(1, 5, 6, 4)
    whole, scale = quantise(key)
    monkeypatch.setattr("kvshare_core.devices.CHUNK_ELEMENTS", 2 * 6 * 4)
    pieces, same_scale = quantise(key)
    assert torch.equal(pieces.float(), whole.float())
    assert torch.equal(same_scale, scale)


def test_a_segment_without_a_subject_is_an_entry_of_no_tokens() -> None:
    for bank in (KeyValueBank(FP8), AwayBank(AWAY), AwayBank(replace(AWAY, dtype="fp8"))):
        entry = BankEntry((stored(0),), stored(3))
        bank.put(KEY, entry, consumers=1)
        found = bank.get(KEY)
        assert found is not None and found.subjects[0].key.shape == (1, 2, 0, 4)


def test_the_error_is_relative_and_says_when_it_has_no_measure() -> None:
    one = torch.ones(1, 1, 2, 2)
    assert quantisation_error(one, one * 1.5) == pytest.approx(0.5)
    assert quantisation_error(one * 1e30, one * 1.5e30) == pytest.approx(0.5)
    assert quantisation_error(one * 0, one * 0) == 0.0
    assert quantisation_error(one * 0, one) == math.inf
    assert math.isnan(quantisation_error(one, one * math.nan))


COUNTS = st.builds(
    TokenCounts,
    subjects=st.tuples(st.integers(0, 12)) | st.tuples(st.none() | st.integers(0, 12), st.integers(0, 12)),
    background=st.none() | st.integers(0, 12),
    text=st.none() | st.integers(1, 3),
)


@st.composite
def passes(draw: st.DrawFn) -> list[BankUse]:
    """Forwards of a few segments, some evaluated more than once, that read any earlier ones."""
    seen: list[int] = []
    evaluations: list[BankUse] = []
    for _ in range(draw(st.integers(1, 7))):
        segment = draw(st.integers(0, 5))
        sources = draw(st.sets(st.sampled_from(seen))) if seen else set[int]()
        evaluations.append(BankUse(segment, frozenset(sources), draw(st.none() | COUNTS)))
        seen.append(segment)
    return evaluations


def run_pass(
    bank: KeyValueBank, evaluations: list[BankUse], blocks: int, rows: int, make: Callable[[int], StoredTokens]
) -> None:
    """Puts and gets as a session does, with real tensors."""
    for evaluation, consumers in zip(evaluations, count_consumers(evaluations), strict=True):
        for block in range(blocks):
            for row in range(rows):
                for source in evaluation.sources:
                    bank.get(BankKey(source, block, (0, 0), row))
                if evaluation.keeps is None:
                    continue
                keeps = evaluation.keeps
                counts = (*keeps.subjects, keeps.background, keeps.text)
                entry = BankEntry.of_parts([None if count is None else make(count) for count in counts])
                bank.put(BankKey(evaluation.segment, block, (0, 0), row), entry, consumers)


@given(
    passes(),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([2, 8]),
    st.sampled_from(DTYPES),
    st.builds(MemorySettings, place=st.sampled_from(["device", "cpu"]), dtype=st.sampled_from(["model", "fp8"])),
)
@settings(max_examples=150)
def test_the_predicted_peak_is_the_peak_of_a_pass_and_nothing_is_left_after_it(
    evaluations: list[BankUse],
    blocks: int,
    rows: int,
    heads: int,
    head_dim: int,
    dtype: torch.dtype,
    memory: MemorySettings,
) -> None:
    bank = AwayBank(memory)
    run_pass(bank, evaluations, blocks, rows, lambda count: stored(count, heads, head_dim, dtype))
    predicted = predict_bytes(evaluations, blocks, rows, heads, head_dim, dtype.itemsize, memory)
    assert bank.peak_bytes == predicted
    assert (len(bank), bank.held_bytes) == (0, 0)


def test_consumers_are_the_later_forwards_up_to_the_next_entry_of_the_segment() -> None:
    """One segment is evaluated twice and leaves keys both times."""
    kept = TokenCounts((3,))
    evaluations = [
        BankUse(0, frozenset(), kept),
        BankUse(1, frozenset({0}), kept),
        BankUse(2, frozenset({0, 1}), None),
        BankUse(1, frozenset({1}), kept),
        BankUse(3, frozenset({1}), kept),
    ]
    assert count_consumers(evaluations) == [2, 2, 0, 1, 0]


def lockstep(segments: int, sources: Callable[[int], set[int]], tokens: int) -> list[BankUse]:
    """One forward per segment, each keeping `tokens`."""
    return [BankUse(k, frozenset(sources(k)), TokenCounts((tokens,))) for k in range(segments)]


def test_the_prediction_for_a_known_model() -> None:
    """Wan 2.1 1.3B at 480p, 81 frames: 192 MiB of bf16 keys and values per block, and places."""
    per_block = 2 * 32760 * 12 * 128 * 2 + 8 * 32760
    sizes = {"blocks": 10, "rows": 2, "key_heads": 12, "head_dim": 128, "element_size": 2}
    first = predict_bytes(lockstep(5, lambda k: {0} if k else set(), 32760), **sizes, memory=MemorySettings())
    assert first == 20 * per_block
    previous = predict_bytes(lockstep(5, lambda k: {k - 1} if k else set(), 32760), **sizes, memory=MemorySettings())
    assert previous == 20 * per_block
    both = predict_bytes(lockstep(5, lambda k: {0, k - 1} if k else set(), 32760), **sizes, memory=MemorySettings())
    assert both == 40 * per_block
    assert predict_bytes(lockstep(1, lambda k: set(), 32760), **sizes, memory=MemorySettings()) == 0
    small = predict_bytes(lockstep(2, lambda k: {0} if k else set(), 32760), **sizes, memory=FP8)
    assert small == 20 * (2 * 32760 * 12 * 128 + 2 * 12 * 4 + 8 * 32760)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("place", ["device", "cpu", "auto"])
def test_on_cuda_entries_survive_transfers_beside_computation(place: str) -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    weight = torch.randn(2048, 2048, device=device)
    bank = KeyValueBank(MemorySettings(place=place), budget_bytes=20 << 20)
    for _ in range(3):
        expected: list[BankEntry] = []
        for row in range(8):
            busy = weight @ weight
            key = (busy[:1024] + row).reshape(1, 16, 1024, 128)
            entry = BankEntry((StoredTokens(key, key * 2, torch.arange(1024)),))
            expected.append(BankEntry((StoredTokens(key.clone(), key * 2, torch.arange(1024)),)))
            bank.put(KEY._replace(row=row), entry, consumers=2)
            del key, entry
        for _ in range(2):
            for row in range(8):
                bank.let_go()
                assert_same(bank.get(KEY._replace(row=row)), expected[row])
                bank.prefetch([KEY._replace(row=row + 1)])
                weight @ weight
        assert (bank.held_bytes, bank.device_bytes) == (0, 0)


def test_an_entry_follows_its_reader_to_another_device() -> None:
    entry, other = full_entry(5), torch.device("meta")
    moved = entry.on(other)
    assert entry.on(CPU) is entry
    for one, same in zip(tensors_of(moved), tensors_of(entry), strict=True):
        assert (one.shape, one.dtype) == (same.shape, same.dtype)
    for part in moved.parts:
        assert part is not None
        assert part.key.device == part.value.device == other
        assert part.tokens.device == CPU
    assert BankEntry(entry.subjects).on(other).background is None


def test_entries_leave_the_device_unchanged_and_later_ones_follow() -> None:
    bank = AwayBank(MemorySettings(place="device"))
    first, second = full_entry(5), full_entry(7)
    bank.put(KEY, first, consumers=2)
    held = bank.held_bytes
    assert bank.leave_device() and not bank.leave_device()
    assert (bank.held_bytes, bank.device_bytes) == (held, 0)
    bank.put(KEY._replace(row=1), second, consumers=1)
    assert bank.device_bytes == 0
    for row, entry in ((0, first), (0, first), (1, second)):
        assert_same(bank.get(KEY._replace(row=row)), entry)
    assert (len(bank), bank.held_bytes) == (0, 0)


def test_a_bank_on_the_cpu_has_nowhere_to_leave_to() -> None:
    bank = KeyValueBank()
    bank.put(KEY, full_entry(5), consumers=1)
    assert not bank.leave_device()


def test_entries_turn_to_fp8_as_if_they_had_been_put_so() -> None:
    entry = full_entry(64, torch.bfloat16)
    expected = KeyValueBank(FP8)
    bank = KeyValueBank()
    for one in (bank, expected):
        one.put(KEY, entry, consumers=1)
    assert bank.turn_to_fp8() and not bank.turn_to_fp8()
    assert (bank.held_bytes, bank.device_bytes) == (expected.held_bytes, expected.device_bytes)
    found = expected.get(KEY)
    assert found is not None
    assert_same(bank.get(KEY), found)
    assert (len(bank), bank.held_bytes, bank.device_bytes) == (0, 0, 0)


def test_a_reader_that_finds_no_memory_may_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = full_entry(8, torch.bfloat16)
    bank = KeyValueBank(FP8)
    bank.put(KEY, entry, consumers=1)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "mul", _no_memory)
        with pytest.raises(torch.OutOfMemoryError):
            bank.get(KEY)
    assert bank.get(KEY) is not None
    assert len(bank) == 0


def _no_memory(*args: Any, **kwargs: Any) -> Any:
    raise torch.OutOfMemoryError("out of memory on purpose")


def test_what_is_saved_leaves_the_device_with_the_next_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """However far the device is behind: its own results wait for the copy, and get the memory at once."""
    streams, bank = Streams(monkeypatch), AwayBank(AWAY)
    monkeypatch.setattr(bank.lane(CPU), "_stream", streams)
    saved = weakref.WeakSet[Any]()
    for block in range(4):
        bank.let_go()
        assert len(saved) == 0
        waited = streams.events
        for row in range(2):
            entry = full_entry(5)
            saved.update(one.untyped_storage() for one in tensors_of(entry) if one.dtype != torch.int64)
            bank.put(KEY._replace(block=block, row=row), entry, consumers=1)
            del entry
        assert len(saved) == 12
        assert streams.events == waited
    bank.clear()
    assert (len(saved), streams.events) == (0, 4 * 2)


def test_what_nobody_reads_leaves_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = AwayBank(AWAY)
    entry = full_entry(5)
    for block in range(4):
        bank.put(KEY._replace(block=block), entry, consumers=1)
    each = sum(tensor.nbytes for tensor in tensors_of(entry) if tensor.dtype != torch.int64)
    for block in range(4):
        bank.prefetch([KEY._replace(block=block)])
        assert bank.device_bytes == each
    for block in range(4):
        assert_same(bank.get(KEY._replace(block=block)), entry)
    assert (len(bank), bank.device_bytes) == (0, 0)


class CountedSlabs:
    """Memory of which the bytes taken and given back are counted."""

    def __init__(self) -> None:
        self.out: list[torch.Tensor] = []

    def take(self, size: int) -> torch.Tensor:
        self.out.append(torch.empty(size, dtype=torch.uint8))
        return self.out[-1]

    def give_back(self, slab: torch.Tensor) -> None:
        (place,) = [place for place, one in enumerate(self.out) if one is slab]
        del self.out[place]


def test_a_closed_bank_gives_its_memory_back_and_may_be_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    streams, slabs, bank = Streams(monkeypatch), CountedSlabs(), AwayBank(AWAY)
    lane = bank.lane(CPU)
    monkeypatch.setattr(lane, "_stream", streams)
    monkeypatch.setattr(lane, "_source", slabs)
    for _ in range(2):
        entry = full_entry(5)
        bank.put(KEY, entry, consumers=2)
        assert_same(bank.get(KEY), entry)
        assert sum(slab.nbytes for slab in slabs.out) == bank.reserved_bytes == SLAB_PAGES * PAGE_BYTES
        waited = streams.waits
        bank.close()
        assert (slabs.out, bank.reserved_bytes, len(bank)) == ([], 0, 0)
        assert streams.waits > waited


def test_one_block_at_a_time_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """However far the device is behind: memory that the lane lets go of can be fetched to at once."""
    streams, bank, fetched = Streams(monkeypatch), AwayBank(AWAY), weakref.WeakSet[torch.Tensor]()
    lane = bank.lane(CPU)
    monkeypatch.setattr(lane, "_stream", streams)
    empty = lane._empty

    def made(copy: Any) -> list[torch.Tensor]:
        tensors = empty(copy)
        fetched.update(tensors)
        return tensors

    monkeypatch.setattr(lane, "_empty", made)
    entry, blocks, rows = full_entry(5), 6, 2
    for block in range(blocks):
        for row in range(rows):
            bank.put(KEY._replace(block=block, row=row), entry, consumers=1)
    of_a_block = rows * sum(tensor.dtype != torch.int64 for tensor in tensors_of(entry))
    bank.prefetch([KEY._replace(block=0, row=row) for row in range(rows)])
    for block in range(blocks):
        for row in range(rows):
            assert_same(bank.get(KEY._replace(block=block, row=row)), entry)
        assert len(fetched) == of_a_block
        before = streams.waits
        bank.prefetch([KEY._replace(block=block + 1, row=row) for row in range(rows)])
        assert streams.waits - before == 1
        assert len(fetched) == (of_a_block if block + 1 < blocks else 0)
    bank.clear()
    assert len(fetched) == 0
