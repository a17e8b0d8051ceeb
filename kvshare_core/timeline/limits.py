"""How large a film may be, checked while it is planned: planning costs time and memory for every prompt, latent frame
and segment, and inputs may come from anywhere. Pure Python."""

import math

from .timeline import TimelineError

MAX_BEATS = 10_000
"""Most prompts of a film."""
MAX_LATENT_FRAMES = 100_000
"""Most latent frames of a film: nearly 7 hours at 16 frames per second, four to a latent frame."""
MAX_FILM_SEGMENTS = 10_000
"""Most segments of a film."""
MAX_SUBJECTS = 1000
"""Most subjects of a film."""
MAX_WINDOW = 1024
"""Most latent frames of a segment."""
MAX_FPS = 10_000.0
"""Most frames per second."""
MAX_ROUTED_WEIGHTS = 4_000_000
"""Most numbers that say how much of which prompt the frames of all segments have, where prompts change by route."""

_IN_PARTS = "Or make it in parts: Long Video Continue goes on from a finished one."


def check_inputs(beats: int, window: int, fps: float, longer_mid_segment: int) -> None:
    """Raises TimelineError for inputs beyond what can be planned, naming the input."""
    if beats > MAX_BEATS:
        raise TimelineError(
            f"prompts: there are {beats:,} prompts; a film has at most {MAX_BEATS:,}. Leave some out. {_IN_PARTS}"
        )
    if window > MAX_WINDOW:
        raise TimelineError(
            f"sampling_num_frames: {window:,} latent frames; a segment has at most {MAX_WINDOW:,}. Write 0 for the "
            "length that the model was trained on."
        )
    if not math.isfinite(fps) or fps > MAX_FPS:
        raise TimelineError(f"fps: {fps:g}; it must be at most {MAX_FPS:g}.")
    if longer_mid_segment > MAX_FILM_SEGMENTS:
        raise TimelineError(f"longer_mid_segment: it must be at most {MAX_FILM_SEGMENTS:,} segments.")


def check_frames(frames: float, prompt: int) -> None:
    """Raises TimelineError if prompt number `prompt`, counted from 1, ends after more latent frames than a film has."""
    if not frames <= MAX_LATENT_FRAMES:
        raise TimelineError(
            f"prompts: prompt {prompt} ends after {frames:,.0f} latent frames; a film has at most "
            f"{MAX_LATENT_FRAMES:,}. Shorten its durations or lower fps. {_IN_PARTS}"
        )


def check_segments(segments: int) -> None:
    """Raises TimelineError for more segments than a film has."""
    if segments > MAX_FILM_SEGMENTS:
        raise TimelineError(
            f"prompts: the film needs more than {MAX_FILM_SEGMENTS:,} segments. Raise sampling_num_frames, or lower "
            f"overlap_size or num_transition_blocks. {_IN_PARTS}"
        )


def check_subjects(subjects: int) -> None:
    """Raises TimelineError for more subjects than a film has."""
    if subjects > MAX_SUBJECTS:
        raise TimelineError(
            f"prompts: the script names {subjects:,} subjects; a film has at most {MAX_SUBJECTS:,}. Give what is the "
            "same in several prompts one name, as in subject: fox = the red fox."
        )


def check_routed(weights: int) -> None:
    """Raises TimelineError if segments have so many prompts by route that their weights would fill the memory."""
    if weights > MAX_ROUTED_WEIGHTS:
        raise TimelineError(
            "prompts: too many prompts change by route within one segment. Lower sampling_num_frames, or write [blend] "
            "or [cut] between some of them."
        )
