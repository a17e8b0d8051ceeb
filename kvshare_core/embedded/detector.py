"""Reads the attributes of a scene back from its frames: what the benchmarks and tests measure with.

No network and nothing learned: the background colour comes from the frame's border, the subject is the connected
region that differs from it, its outline is compared with the three analytic shapes, and what has the marks' colour in
it with the three marks. A second subject is what still differs once the first is taken away. Made for generated frames:
soft edges, mild colour errors, faint ghosts and some frames without a subject are expected. Lengths are fractions of
the frame side.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .scenes import (
    BACKGROUND_SHADE,
    BACKGROUND_VALUES,
    COLOUR_VALUES,
    DIRECTION_VECTORS,
    MARK_VALUE,
    RADIUS_RANGES,
    mark_distance,
    pixel_grid,
    signed_distance,
)
from .vocabulary import BACKGROUNDS, COLOURS, DIRECTIONS, PATTERNS, SHAPES, SIZES

BORDER = 1 / 24
"""Width of the frame's border that shows the background."""
SEED_WINDOW = 0.15
"""The subject's colour is first read where a window of this width differs most from the background."""
MIN_CONTRAST = 0.20
"""Distance in RGB between subject and background below which there is no subject."""
MIN_AREA = 0.012
"""Share of the frame below which a region is no subject; the smallest rendered subject has 0.034."""
MIN_FRAMES = 0.5
"""Share of the frames that must show the subject."""
MIN_OVERLAP = 0.65
"""Overlap (intersection over union) with the best analytic shape below which the shape has no name."""
BARE_DISTANCE = 0.6
"""Distance in RGB from the marks' colour beyond which a pixel certainly shows no mark."""
BARE_PART = 0.85
"""A subject's colour is read from pixels at least this part as far from the marks' colour as its bare pixels are."""
MIN_MARK_AREA = 0.07
"""Share of the subject below which its mark counts as none; a rendered spot has at least 0.19."""
MIN_MARK_OVERLAP = 0.35
"""Overlap with the best analytic mark below which the pattern has no name."""
ERASED_RIM = 2
"""Pixels around the first subject that are taken away with it before a second is looked for."""
MIN_DISPLACEMENT = 0.06
"""Displacement of a subject below which it counts as standing still."""
MAX_COLOUR_DISTANCE = 0.35
MAX_BACKGROUND_DISTANCE = 0.20
"""Distances from the nearest palette entry beyond which a colour has no name."""

AREA_FACTORS = torch.tensor([math.pi, 1.8**2, 2.0])
"""Area of each shape of scenes.signed_distance at radius one."""
CENTROID_OFFSETS = torch.tensor([0.0, 0.0, 0.85 - 2 / 3])
"""How far the centre of mass of each shape at radius one lies below the shape's centre."""


@dataclass(frozen=True)
class Detection:
    """What `detect` saw in a clip of f frames of h x h pixels.

    `found` says whether enough frames show a subject; without one, `colour`, `pattern`, `shape`, `direction` and
    `radius` are None. A word is also None where nothing in the vocabulary fits; `direction` is None for a subject that
    stands still. `centres` [f, 2] in (x, y) is NaN and `masks` [f, h, h] is empty in frames without the subject.
    `displacement` (x, y) is the way of the subject's mean centre from the first to the last third of the clip.
    """

    found: bool
    colour: str | None
    pattern: str | None
    shape: str | None
    direction: str | None
    background: str | None
    radius: float | None
    centres: torch.Tensor
    masks: torch.Tensor
    displacement: tuple[float, float]

    @property
    def size(self) -> str | None:
        """The size word whose range of radii is nearest."""
        if self.radius is None:
            return None
        return SIZES[int(self.radius > (RADIUS_RANGES[0][1] + RADIUS_RANGES[1][0]) / 2)]


def detect(video: torch.Tensor) -> Detection:
    """Detects the one subject of `video` [f, 3, h, h] (values in 0..1, any dtype) and the background.

    Raises ValueError for any other shape.
    """
    video = checked_frames(video)
    background = background_colours(video)
    alpha, contrast = subject_opacity(video, background)
    return describe(video, background, alpha, is_subject(alpha, contrast))


def detect_pair(video: torch.Tensor) -> tuple[Detection, Detection]:
    """Detects the two subjects of `video` [f, 3, h, h] (values in 0..1, any dtype), which must not touch, and the
    background. The subject with the larger area comes first; one that is not there has `found` False.

    Raises ValueError for any other shape.
    """
    video = checked_frames(video)
    background = background_colours(video)
    first, first_contrast = subject_opacity(video, background)
    rim = 2 * ERASED_RIM + 1
    erased = F.max_pool2d((first > 0.1).float()[:, None], rim, stride=1, padding=ERASED_RIM)[:, 0]
    second, second_contrast = subject_opacity(video, background, 1 - erased)
    regions = torch.stack([first, second])
    present = torch.stack([is_subject(first, first_contrast), is_subject(second, second_contrast)])
    places = follow_subjects(regions, present)
    every = torch.arange(len(video))
    tracks = [(regions[place, every], present[place, every]) for place in places]
    tracks.sort(key=lambda track: -float((track[0].mean((1, 2)) * track[1]).mean()))
    one, other = (describe(video, background, alpha, there) for alpha, there in tracks)
    return one, other


def checked_frames(video: torch.Tensor) -> torch.Tensor:
    """`video` in float32. Raises ValueError when it is not of shape [f, 3, h, h]."""
    if video.ndim != 4 or video.shape[1] != 3 or video.shape[2] != video.shape[3] or not len(video):
        raise ValueError(f"detect takes frames [f, 3, h, h], got {list(video.shape)}")
    return video.float()


def is_subject(alpha: torch.Tensor, contrast: torch.Tensor) -> torch.Tensor:
    """Which frames [f] show enough of a region of opacity `alpha` [f, h, h], clearly enough."""
    return (contrast >= MIN_CONTRAST) & ((alpha > 0.5).float().mean((1, 2)) >= MIN_AREA)


def follow_subjects(regions: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Which of the two regions of every frame belongs to which subject: places [2, f] into the first axis of `regions`.

    `regions` [2, f, h, h] hold opacities, `present` [2, f] says which count. A subject is where it was last: between
    two frames it moves less than two subjects are apart.
    """
    x, y = pixel_grid(regions.shape[-1])
    weight = regions.sum((2, 3)).clamp(min=1)
    centres = torch.stack([(regions * x).sum((2, 3)), (regions * y).sum((2, 3))], dim=-1) / weight[..., None]
    places = torch.tensor([[0], [1]]).repeat(1, regions.shape[1])
    last: list[torch.Tensor | None] = [None, None]
    for frame in range(regions.shape[1]):
        costs: list[float] = []
        for order in ((0, 1), (1, 0)):
            known = [
                float((centres[place, frame] - was).norm())
                for was, place in zip(last, order, strict=True)
                if was is not None and bool(present[place, frame])
            ]
            costs.append(sum(known))
        if costs[1] < costs[0]:
            places[:, frame] = torch.tensor([1, 0])
        for track, place in enumerate(places[:, frame].tolist()):
            if bool(present[place, frame]):
                last[track] = centres[place, frame]
    return places


def describe(video: torch.Tensor, background: torch.Tensor, alpha: torch.Tensor, present: torch.Tensor) -> Detection:
    """What the subject with opacity `alpha` [f, h, h] is, which the frames `present` [f] show."""
    masks = (alpha > 0.5) & present[:, None, None]
    background_word = vote(nearest(background, BACKGROUND_VALUES, MAX_BACKGROUND_DISTANCE), BACKGROUNDS)
    nowhere = torch.full((len(video), 2), math.nan)
    if present.float().mean() < MIN_FRAMES:
        return Detection(False, None, None, None, None, background_word, None, nowhere, masks & False, (0.0, 0.0))

    seen = present.nonzero()[:, 0]
    shape, radius, centres = fit_shape(alpha[seen])
    cores = core_colours(video[seen], masks[seen])
    displacement = displacement_of(centres, seen, len(video))
    return Detection(
        found=True,
        colour=vote(nearest(opponents(cores), opponents(COLOUR_VALUES), MAX_COLOUR_DISTANCE), COLOURS),
        pattern=fit_pattern(mark_opacity(video[seen], alpha[seen], cores), alpha[seen], shape, radius, centres),
        shape=shape,
        direction=direction_word(displacement),
        background=background_word,
        radius=radius,
        centres=nowhere.index_copy(0, seen, centres),
        masks=masks,
        displacement=displacement,
    )


def background_colours(video: torch.Tensor) -> torch.Tensor:
    """Background colour [f, 3] of every frame at medium shade: the median of the border, which a subject at the edge
    covers at most in part."""
    side = video.shape[-1]
    shaded = video / background_shade(side)
    width = max(1, round(side * BORDER))
    strips = (shaded[..., :width], shaded[..., -width:], shaded[..., :width, :], shaded[..., -width:, :])
    return torch.cat([strip.flatten(2) for strip in strips], dim=2).median(dim=2).values


def background_shade(side: int) -> torch.Tensor:
    """Brightness [side, 1] of every row of a background."""
    rows = pixel_grid(side)[1][:, :1]
    return BACKGROUND_SHADE[0] + (BACKGROUND_SHADE[1] - BACKGROUND_SHADE[0]) * rows / side


def subject_opacity(
    video: torch.Tensor, background: torch.Tensor, visible: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Opacity of the subject [f, h, h] in 0..1, zero outside its connected region, and its contrast [f].

    Only the pixels of `visible` [f, h, h] are looked at.

    The subject's colour is read where the frame differs most from its background and is no mark; opacity is how far a
    pixel is on the way from the background to that colour and to the marks', so its half-way line is the outline for
    every pair of colours.
    """
    frames, _, side, _ = video.shape
    difference = video - background[:, :, None, None] * background_shade(side)
    if visible is not None:
        difference = difference * visible[:, None]
    distance = difference.norm(dim=1).clamp(max=0.6)[:, None]
    window = 2 * round(side * SEED_WINDOW / 2) + 1
    mass = F.avg_pool2d(distance, window, stride=1, padding=window // 2)
    bare = (mark_distances(video)[:, None] / BARE_DISTANCE).clamp(max=1).square()
    seed = (mass * F.avg_pool2d(distance * bare, 5, stride=1, padding=2)).flatten(1).argmax(1)
    every = torch.arange(frames)
    shown, weights = (F.avg_pool2d(part, 5, stride=1, padding=2) for part in (difference * bare, bare))
    colour = (shown / weights.clamp(min=1e-6)).flatten(2)[every, :, seed]
    mark = MARK_VALUE - background * background_shade(side).mean()
    alpha = on_the_way(difference, colour, mark)
    return alpha * connected_region(alpha, seed), colour.norm(dim=1)


def mark_distances(video: torch.Tensor) -> torch.Tensor:
    """Distance in RGB [f, h, h] of every pixel from the marks' colour."""
    return (video - MARK_VALUE.reshape(3, 1, 1)).norm(dim=1)


def on_the_way(difference: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """How far [f, h, h] in 0..1 every pixel's `difference` [f, 3, h, h] from the background is on the way to either of
    two [f, 3] or a mixture of both: the sum of the two weights, neither below zero, that come nearest to it."""
    ways = torch.stack([first, second], dim=1)
    likeness = ways @ ways.mT + 1e-4 * torch.eye(2)
    along = torch.einsum("fchw,fkc->fkhw", difference, ways)
    weights = torch.einsum("fjk,fkhw->fjhw", torch.linalg.inv(likeness), along)
    alone = along / likeness.diagonal(dim1=1, dim2=2)[..., None, None]
    both = torch.where(weights[:, 0] < 0, alone[:, 1], torch.where(weights[:, 1] < 0, alone[:, 0], weights.sum(1)))
    return both.clamp(0, 1)


def connected_region(alpha: torch.Tensor, seed: torch.Tensor) -> torch.Tensor:
    """The region [f, h, h] of opaque pixels that hangs together with pixel `seed` [f], with its soft rim.

    It is grown on a grid of 2 x 2 pixels, which is four times less work and bridges single missing pixels.
    """
    side = alpha.shape[-1]
    opaque = (F.avg_pool2d(alpha[:, None], 2, ceil_mode=True) > 0.5).float()
    coarse = opaque.shape[-1]
    region = torch.zeros_like(opaque)
    region.flatten(1)[torch.arange(len(seed)), (seed // side // 2) * coarse + seed % side // 2] = 1
    region = region * opaque
    while True:
        grown = F.max_pool2d(region, 3, stride=1, padding=1) * opaque
        if torch.equal(grown, region):
            break
        region = grown
    rim = F.max_pool2d(region, 3, stride=1, padding=1)
    return F.interpolate(rim, scale_factor=2)[:, 0, :side, :side]


def core_colours(video: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Mean colour [f, 3] of each mask away from its outline, of the whole mask where it is too thin; of the pixels that
    are no mark."""
    whole = masks[:, None]
    core = F.max_pool2d((~whole).float(), 5, stride=1, padding=2) == 0
    core = torch.where(core.any(dim=(1, 2, 3), keepdim=True), core, whole)
    distances = mark_distances(video)[:, None].masked_fill(~core, math.nan)
    bare = distances.flatten(1).nanquantile(0.8, dim=1).reshape(-1, 1, 1, 1)
    shown = (distances >= BARE_PART * bare).float()
    return (video * shown).sum((2, 3)) / shown.sum((2, 3))


def mark_opacity(video: torch.Tensor, alpha: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
    """How far [f, h, h] in 0..1 every pixel of a subject with opacity `alpha` [f, h, h] is on the way from the
    subject's colour [f, 3] to the marks'."""
    way = MARK_VALUE - colours
    projected = torch.einsum("fchw,fc->fhw", video - colours[:, :, None, None], way)
    return (projected / way.square().sum(1).clamp(min=1e-6)[:, None, None]).clamp(0, 1) * (alpha > 0.5)


def fit_pattern(
    mark: torch.Tensor, alpha: torch.Tensor, shape: str | None, radius: float, centres: torch.Tensor
) -> str | None:
    """Pattern word of a subject whose mark has opacity `mark` [f, h, h]: plain where there is hardly any, else the
    mark of that shape, radius and centres [f, 2] that covers it best over all frames."""
    if float((mark > 0.5).sum() / alpha.sum()) < MIN_MARK_AREA:
        return PATTERNS[0]
    side = mark.shape[-1]
    x, y = pixel_grid(side)
    offset_x, offset_y = x - centres[:, 0, None, None] * side, y - centres[:, 1, None, None] * side
    candidates = len(PATTERNS) - 1
    distance = mark_distance(
        torch.arange(1, len(PATTERNS)),
        torch.full((candidates,), SHAPES.index(shape) if shape else 0),
        offset_x.expand(candidates, -1, -1, -1),
        offset_y.expand(candidates, -1, -1, -1),
        torch.full((candidates, 1, 1, 1), radius * side),
    )
    candidate = (distance + 0.5).clamp(0, 1) * (alpha > 0.5)
    overlap = torch.minimum(mark, candidate).sum((1, 2, 3)) / torch.maximum(mark, candidate).sum((1, 2, 3))
    score, winner = overlap.max(0)
    return PATTERNS[1 + int(winner)] if score >= MIN_MARK_OVERLAP else None


def opponents(colours: torch.Tensor) -> torch.Tensor:
    """Colours [..., 3] as red-green, yellow-blue and half the brightness: hue tells more than lightness."""
    red, green, blue = colours.unbind(-1)
    return torch.stack([red - green, (red + green) / 2 - blue, (red + green + blue) / 6], dim=-1)


def nearest(values: torch.Tensor, palette: torch.Tensor, limit: float) -> torch.Tensor:
    """Index [f] of the palette row nearest to each of `values` [f, 3], or -1 beyond `limit`."""
    distance, index = torch.cdist(values, palette).min(dim=1)
    return torch.where(distance <= limit, index, -1)


def vote(indices: torch.Tensor, words: tuple[str, ...]) -> str | None:
    """The word that most frames say; -1 says that none fits."""
    winner = int(indices.mode().values)
    return words[winner] if winner >= 0 else None


def fit_shape(alpha: torch.Tensor) -> tuple[str | None, float, torch.Tensor]:
    """Shape word, radius and centres [f, 2] of a subject with opacity `alpha` [f, h, h].

    Area and centre of mass give the one candidate of each shape; the shape whose candidates cover the opacity best over
    all frames wins. Frames in which the subject touches the edge do not vote while others are there.
    """
    frames, side, _ = alpha.shape
    x, y = pixel_grid(side)
    area = alpha.sum((1, 2))
    centroid = torch.stack([(alpha * x).sum((1, 2)), (alpha * y).sum((1, 2))], dim=1) / area[:, None]
    radius = (area[:, None] / AREA_FACTORS).sqrt()
    centre_y = centroid[:, 1, None] - CENTROID_OFFSETS * radius
    distance = signed_distance(
        torch.arange(len(SHAPES)).repeat(frames),
        x - centroid[:, 0].repeat_interleave(len(SHAPES))[:, None, None],
        y - centre_y.flatten()[:, None, None],
        radius.flatten()[:, None, None],
    )
    candidate = (distance + 0.5).clamp(0, 1).unflatten(0, (frames, len(SHAPES)))
    subject = alpha[:, None].expand_as(candidate)
    overlap = torch.minimum(subject, candidate).sum((2, 3)) / torch.maximum(subject, candidate).sum((2, 3))

    edge = torch.cat([alpha[:, 0], alpha[:, -1], alpha[:, :, 0], alpha[:, :, -1]], dim=1).amax(1) > 0.5
    whole = ~edge if bool((~edge).any()) else torch.ones_like(edge)
    score, winner = overlap[whole].mean(0).max(0)
    word = SHAPES[int(winner)] if score >= MIN_OVERLAP else None
    centres = torch.stack([centroid[:, 0], centre_y[:, winner]], dim=1) / side
    return word, float(radius[whole, winner].median() / side), centres


def displacement_of(centres: torch.Tensor, seen: torch.Tensor, frames: int) -> tuple[float, float]:
    """Way (x, y) of the mean centre from the first to the last third of a clip of `frames`; zero when one third shows
    no subject. `centres` [s, 2] belong to the frames `seen` [s]."""
    first, last = seen < frames / 3, seen >= frames * 2 / 3
    if not bool(first.any()) or not bool(last.any()):
        return 0.0, 0.0
    x, y = (centres[last].mean(0) - centres[first].mean(0)).tolist()
    return x, y


def direction_word(displacement: tuple[float, float]) -> str | None:
    """The direction along the dominant axis of `displacement`, None for one that is too small."""
    if math.hypot(*displacement) < MIN_DISPLACEMENT:
        return None
    return DIRECTIONS[int((DIRECTION_VECTORS @ torch.tensor(displacement)).argmax())]
