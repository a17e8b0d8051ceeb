"""Masks that go with a film from one sampler to the next.

A sampler that stops before all noise is gone leaves its latent to another one, which may have another model (the two
experts of Wan 2.2). The masks that it found belong to that latent: whoever goes on from it starts with them.
"""

from collections import OrderedDict

import torch

from .record import RecordedMasks, latent_digest

KEPT = 8
"""Latents whose masks are kept."""


class Handover:
    """What the samplers of one film leave to each other, by the latent that they leave."""

    def __init__(self) -> None:
        self._left: OrderedDict[str, RecordedMasks] = OrderedDict()

    def leave(self, latent: torch.Tensor, masks: RecordedMasks) -> None:
        """Keeps the masks of a run that ended with `latent`."""
        self._left[latent_digest(latent)] = masks
        while len(self._left) > KEPT:
            self._left.popitem(last=False)

    def masks_of(self, latent: torch.Tensor) -> RecordedMasks | None:
        """The masks of the run that ended with `latent`; None where there was none."""
        return self._left.get(latent_digest(latent))
