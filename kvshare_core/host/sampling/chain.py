"""Order `chain`: every stage samples one segment, which goes on from the finished frames of those before.

Finished frames are held by the noise mask, as frames of a continued film are (`held_frames.py`), and given to
image-to-video models as images (`conditioning/carried_image.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ...timeline.pictures import as_video
from ..conditioning.carried_image import KnownFrames
from .packed_latent import Stretch, joined, video_part


class Chain:
    """The latent of a run that is sampled segment by segment."""

    def __init__(
        self,
        arguments: Mapping[str, Any],
        shapes: Sequence[Any],
        model: Any,
        times: Sequence[int],
        stretches: Sequence[Sequence[Stretch]],
    ):
        """arguments: of the host's `outer_sample`, by name; shapes: of the latent's parts, the video first; model: the
        host's, which knows how latents are scaled; times, stretches: of each part, the dimension that is time and the
        stretch of every segment."""
        self._arguments, self._model, self._shapes = arguments, model, shapes
        self._times, self._stretches = times, stretches
        self._result: torch.Tensor = arguments["latent_image"]
        # The host scales no latent that is all zeros, but will scale one in which the first segment is finished.
        empty = not bool(self._result.any())
        self._known = model.process_latent_out(torch.zeros_like(self._result)) if empty else self._result
        lengths = [shape[time] for shape, time in zip(shapes, self._times, strict=True)]
        self._finished = [torch.zeros(length, dtype=torch.bool) for length in lengths]
        self._leaves_noise = float(arguments["sigmas"][-1]) > 0
        self._estimate: torch.Tensor | None = None

    @property
    def result(self) -> torch.Tensor:
        """The whole latent, as far as it is sampled."""
        return self._result

    def known_frames(self) -> KnownFrames:
        """The finished frames of the video, as the model gets latents."""
        latent = self._model.process_latent_in(self._known)
        video = video_part(latent, self._shapes)
        return KnownFrames(as_video(video) if self._times[0] == 0 else video, self._finished[0].clone())

    def arguments(self, segment: int) -> dict[str, Any]:
        """The arguments with which a segment is sampled; everything else is held."""
        noise, mask = self._arguments["noise"], self._arguments["denoise_mask"]
        free = self._over_frames(self._free(segment)).to(noise.device)
        if not bool(noise.any()):
            # The sampler adds no noise to a latent that has it already. Finished frames have none.
            generator = torch.Generator().manual_seed(self._arguments["seed"] or 0)
            noise = torch.where(free, noise, torch.randn(noise.shape, generator=generator).to(noise))
        begun = any(bool(done.any()) for done in self._finished)
        return {
            **self._arguments,
            "noise": noise,
            "latent_image": self._known if begun else self._result,
            "denoise_mask": free.to(noise) if mask is None else mask * free.to(mask),
            "callback": self._keeping_estimate(self._arguments["callback"]),
        }

    def _keeping_estimate(self, callback: Callable[..., Any] | None) -> Callable[..., Any] | None:
        """A sampler's callback that also keeps what the model predicts last, where a run ends before all noise is
        gone."""
        if not self._leaves_noise:
            return callback

        def keeping(step: int, denoised: torch.Tensor, latent: Any, steps: int) -> Any:
            self._estimate = denoised
            return None if callback is None else callback(step, denoised, latent, steps)

        return keeping

    def finish(self, segment: int, result: torch.Tensor) -> None:
        """Takes what was sampled of a segment."""
        free = self._free(segment)
        new = self._over_frames(free).to(result.device)
        clean = result
        if self._leaves_noise and self._estimate is not None:
            clean = self._model.process_latent_out(self._estimate.to(result))
        self._result = torch.where(new, result, self._result.to(result))
        self._known = torch.where(new, clean, self._known.to(result))
        for done, fresh in zip(self._finished, free, strict=True):
            done |= fresh

    def _free(self, segment: int) -> list[torch.Tensor]:
        """Of each part, the frames of a segment that count and are not finished, bool [frames]."""
        free: list[torch.Tensor] = []
        for done, stretches in zip(self._finished, self._stretches, strict=True):
            stretch, own = stretches[segment], torch.zeros_like(done)
            own[[frame % len(own) for frame in stretch.counting()]] = True
            free.append(own & ~done)
        return free

    def _over_frames(self, frames: Sequence[torch.Tensor]) -> torch.Tensor:
        """Of frames of each part, bool [frames], the numbers of the latent that belong to them."""
        return joined(
            [
                chosen.reshape(*[1] * time, -1, *[1] * (len(shape) - time - 1)).expand(tuple(shape))
                for chosen, shape, time in zip(frames, self._shapes, self._times, strict=True)
            ]
        )
