"""Linear latents of rendered scenes, fitted once for all tests of a process."""

from functools import cache

from kvshare_core.embedded.latents import LatentBasis, fit_basis


@cache
def latent_basis(scenes: int = 64) -> LatentBasis:
    """The basis of `scenes` seeded renderings, a multiple of 64; fitting the shipped one takes seconds."""
    return fit_basis(scenes=scenes)
