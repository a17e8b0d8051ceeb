"""Conditioning that other nodes have combined with the prompts of the segmenter, in either order."""

import torch

from kvshare_core.config import KVShareConfig
from tests.support.windows import beat_prompts, latent_shape, share, tiny_timeline
from tests.tiny.models import Sampling, one_prompt, tiny_wan


def test_a_style_combined_in_front_of_the_prompts_shares_as_one_behind_them() -> None:
    model, timeline = tiny_wan(), tiny_timeline(2)
    shape, prompts, style = latent_shape(timeline), beat_prompts(timeline), one_prompt(50)
    config = KVShareConfig(mode="extend", strength=1.0)
    videos: list[torch.Tensor] = []
    for positive in (prompts + style, style + prompts):
        patched, record = share(model, timeline, config)
        videos.append(Sampling(steps=3).run(patched, positive, one_prompt(), shape))
        assert record.latest() is not None
    off = share(model, timeline, KVShareConfig(mode="off"))[0]
    unshared = Sampling(steps=3).run(off, style + prompts, one_prompt(), shape)
    torch.testing.assert_close(videos[1], videos[0], rtol=1e-5, atol=1e-5)
    assert (videos[1] - unshared).abs().max() > 1e-3
