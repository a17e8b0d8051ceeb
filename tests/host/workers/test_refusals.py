"""What workers cannot do exactly is refused with what to change, before a run or at its start."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from comfy.patcher_extension import WrappersMP

from kvshare_core.config import KVShareConfig
from kvshare_core.host.loading.model_info import SOURCE_ATTACHMENT
from kvshare_core.host.loading.model_source import source_of
from kvshare_core.host.workers import pool
from kvshare_core.host.workers.settings import WorkerSettings
from kvshare_core.host.workers.travel import on_device, travelling_entry, travelling_options
from kvshare_core.host.workers.workers import with_workers
from tests.support.node_calls import run_node
from tests.support.windows import share
from tests.support.worker_films import film, film_timeline, tiny_model

SIX = film_timeline("fox runs\n" * 6)
TWO = WorkerSettings(workers=2)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("diffusion_models")


@pytest.fixture
def model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A model; nothing here starts Ray, so it need not be installed."""
    monkeypatch.setattr("kvshare_core.host.workers.workers.require_ray", lambda: None)
    return tiny_model(folder)


def refusal(model: Any, settings: WorkerSettings = TWO, config: KVShareConfig | None = None) -> str:
    """Why a film of this model is refused."""
    patched, _ = film(model, SIX, config or KVShareConfig())
    with pytest.raises(ValueError) as reason:
        with_workers(patched, settings)
    return str(reason.value)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"sources": "previous"}, "Set sources to first"),
        ({"sources": "first and previous"}, "Set sources to first"),
        ({"order": "chain"}, "Set order to lockstep"),
    ],
)
def test_films_that_cannot_be_divided(model: Any, config: dict[str, Any], said: str) -> None:
    assert said in refusal(model, config=KVShareConfig(**config))


def test_a_number_that_is_not_known_yet_is_checked_when_the_run_begins(model: Any) -> None:
    patched, _ = film(model, SIX, KVShareConfig(sources="previous"))
    assert with_workers(patched, replace(TWO, workers=0)) is not patched


def test_a_model_without_a_plan(model: Any) -> None:
    with pytest.raises(ValueError, match="does not come from Mask-Guided KV Share"):
        with_workers(model, TWO)


def test_a_model_of_an_unknown_loader(model: Any) -> None:
    model = model.clone()
    model.set_attachments(SOURCE_ATTACHMENT, None)
    vars(model)["cached_patcher_init"] = None
    assert "Load Video DiT" in refusal(model)


def test_newer_hosts_tell_the_file_of_a_loader_node(model: Any) -> None:
    told = source_of(model)
    model = model.clone()
    model.set_attachments(SOURCE_ATTACHMENT, None)
    found = source_of(model)
    if "cached_patcher_init" not in vars(model):
        assert found is None
    else:
        assert told is not None and found is not None
        assert (found.loader, found.name) == ("Load Diffusion Model", told.name)


def test_changes_of_the_model_by_other_nodes_are_named(model: Any) -> None:
    def around(executor: Any, *args: Any, **kwargs: Any) -> Any:
        return executor(*args, **kwargs)

    wrapped = model.clone()
    wrapped.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "cache of steps", around)
    assert "cache of steps" in refusal(wrapped)
    replaced = model.clone()
    replaced.add_object_patch("diffusion_model.forward", around)
    assert "diffusion_model.forward" in refusal(replaced)
    patched = model.clone()
    patched.set_model_attn1_patch(around)
    assert "patches" in refusal(patched)
    function = model.clone()
    function.set_model_unet_function_wrapper(around)
    assert "model_function_wrapper" in refusal(function)
    override = model.clone()
    override.model_options["transformer_options"]["optimized_attention_override"] = around
    assert "optimized_attention_override" in refusal(override)


def test_wrappers_around_the_sampler_stay_here(model: Any) -> None:
    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, "another node", lambda executor, *args: executor(*args))
    assert with_workers(film(model, SIX, KVShareConfig())[0], TWO)


def test_weights_patched_by_functions_of_other_nodes(model: Any) -> None:
    model = model.clone()
    weight = torch.zeros(128, 128)
    patch = ("diff", (weight,))
    model.add_patches({("diffusion_model.blocks.1.self_attn.q.weight", None, lambda one: one): patch})
    assert "weights that another node patched" in refusal(model)


def test_an_image_model_that_hands_on_frames(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvshare_core.host.workers.workers.require_ray", lambda: None)
    model = tiny_model(folder, image_to_video=True)
    patched, _ = share(model, SIX, carry_image=True)
    with pytest.raises(ValueError, match="Turn carry_image off"):
        with_workers(patched, TWO)
    assert with_workers(share(model, SIX, carry_image=False)[0], TWO)


def test_a_point_that_is_looked_at(model: Any) -> None:
    (patched, _) = run_node("MaskGuidedKVShare", model=model, timeline=SIX, subject="fox", look_at="0.5, 0.5, 1")
    with pytest.raises(ValueError, match="Leave look_at"):
        with_workers(patched, TWO)


@pytest.mark.parametrize("name", ["control", "gligen", "hooks", "additional_models"])
def test_conditioning_that_holds_a_model(name: str) -> None:
    with pytest.raises(ValueError, match="Take it off the conditioning"):
        travelling_entry({"model_conds": {}, "uuid": 1, name: object()}, CPU)


def test_options_travel_as_plain_values_and_functions_do_not() -> None:
    scale = torch.ones(2)
    options = {"transformer_options": {"scale": scale, "rope_options": {"shift": 1.5}, "patches": {}, "wrappers": {}}}
    found = travelling_options(options, CPU)
    assert set(found) == {"scale", "rope_options"}
    assert on_device(found, CPU)["scale"] is not scale and torch.equal(on_device(found, CPU)["scale"], scale)
    # What is elsewhere here stays in the computer's memory there.
    assert torch.equal(travelling_options(options, torch.device("meta"))["scale"], scale)
    with pytest.raises(ValueError, match="patches_replace"):
        travelling_options({"transformer_options": {"patches_replace": {"dit": {1: lambda: None}}}}, CPU)


def test_without_ray_the_node_says_how_to_install_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(pool, "import_module", missing)
    patched, _ = film(tiny_model(folder), SIX, KVShareConfig())
    with pytest.raises(ValueError, match="python -m pip install ray"):
        run_node("KVShareWorkers", model=patched, address="local", workers=2, memory_gib=0.0)


@pytest.mark.parametrize(
    ("values", "name"),
    [((" ", 2, 0.0), "address"), (("local", -1, 0.0), "workers"), (("local", 2, -1.0), "memory_gib")],
)
def test_settings_that_cannot_be(values: Any, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        WorkerSettings(*values)
