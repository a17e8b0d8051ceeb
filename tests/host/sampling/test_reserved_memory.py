"""What the host is asked to keep free for a shared call, by the device on which it is computed."""

import comfy.samplers
import torch

from kvshare_core.config import KVShareConfig
from kvshare_core.host.loading.model_info import model_info
from kvshare_core.host.sampling.memory import expected_bytes
from kvshare_core.plan.call_memory import unfused_bytes
from kvshare_core.plan.making import make_plan
from kvshare_core.plan.model_fit import fit_plan
from tests.support.family_cases import model_of
from tests.support.windows import beat_prompts, latent_shape, tiny_timeline
from tests.tiny.models import one_prompt


def test_more_is_reserved_where_no_fused_kernel_tells_the_log_sum_exp() -> None:
    timeline = tiny_timeline(3)
    model = model_of("wan t2v").clone()
    fitted = fit_plan(make_plan(timeline, KVShareConfig(), "fox", None), model_info(model)[1])
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(beat_prompts(timeline), one_prompt())
    guider.set_cfg(3.0)
    # As it does when sampling begins.
    guider.conds = guider.original_conds
    shape = latent_shape(timeline)

    def on(device: str) -> int:
        guider.model_patcher.load_device = torch.device(device)
        return expected_bytes(fitted, guider, shape).call

    fused, unfused = on("cuda"), on("mps")
    assert fused == on("cpu") > 0
    assert unfused - fused == unfused_bytes(fitted, 27, 0, 2) > 0
