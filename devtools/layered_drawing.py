"""Draws boxes in rows and the arrows that point down between them, as an SVG file.

The method of Sugiyama, Tagawa and Toda (1981): an arrow over several rows gets a place in each row that it passes, the
places of a row are ordered so that few arrows cross, and then moved sideways towards their neighbours in other rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import fsum

BOX_HEIGHT, ROW_HEIGHT, MARGIN, GAP = 46, 92, 16, 18
"""Pixels: of a box, from a row to the next, around the picture, between two boxes."""
NAME_WIDTH, NOTE_WIDTH = 8.2, 5.9
"""Pixels of one letter of a box's name and of the note below it."""
LANE = 10
"""Width of the place of an arrow that passes a row."""
PORT = 9
"""Pixels between two arrows that end at one box."""
SWEEPS, SIDEWAYS_SWEEPS = 24, 200
"""Passes over the rows that order them, and that move their places sideways."""
STRAIGHT = 20
"""How much more than the distance of two boxes that of two places of one arrow counts."""

COLOURS = {
    "core": ("#dbe9f8", "#2f6299"),
    "host": ("#fbe5cc", "#a5651a"),
    "embedded": ("#dcefdc", "#3c7a3f"),
    "outer": ("#e9e7ee", "#625a78"),
}
"""Fill and stroke of every kind of box."""

Arrow = tuple[str, str]
"""Keys of the boxes that it joins, from the upper to the lower one."""

Place = tuple[str, ...]
"""What stands in a row: the key of a box, or of an arrow that passes the row, its two keys and the row's number."""

Link = tuple[Place, Place]
"""A piece of an arrow, from a place to one in the next row."""


@dataclass(frozen=True)
class Box:
    """One box: what arrows call it, what is written in it, and its kind, one of COLOURS."""

    key: str
    name: str
    note: str
    kind: str

    @property
    def width(self) -> float:
        """Pixels."""
        return max(len(self.name) * NAME_WIDTH, max(map(len, self.lines)) * NOTE_WIDTH) + 16

    @property
    def lines(self) -> list[str]:
        """The note in at most two lines of about the same length."""
        words = self.note.split()
        cut = min(
            range(1, len(words) + 1), key=lambda count: max(len(" ".join(words[:count])), len(" ".join(words[count:])))
        )
        return [" ".join(part) for part in (words[:cut], words[cut:]) if part]


def draw(rows: Sequence[Sequence[Box]], arrows: Sequence[Arrow]) -> str:
    """The SVG text. rows: from the top; every arrow points to a lower row."""
    boxes = {box.key: box for row in rows for box in row}
    places, links = _places(rows, arrows)
    order = _order(places, links)
    widths = {place: boxes[place[0]].width if len(place) == 1 else LANE for row in order for place in row}
    centres = _centres(order, links, widths)
    ports = _ports(links, centres, boxes)
    width = round(max(centre + widths[place] / 2 for place, centre in centres.items()) + MARGIN)
    height = _top(len(rows) - 1) + BOX_HEIGHT + MARGIN
    level = {box.key: number for number, row in enumerate(rows) for box in row}
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif" text-anchor="middle">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#5b6470"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    lines += [_curve(_way(arrow, level[arrow[0]], level[arrow[1]]), level[arrow[0]], ports) for arrow in arrows]
    for number, row in enumerate(order):
        lines += [_box(boxes[place[0]], centres[place], number) for place in row if len(place) == 1]
    return "\n".join([*lines, "</svg>"]) + "\n"


def _places(rows: Sequence[Sequence[Box]], arrows: Sequence[Arrow]) -> tuple[list[list[Place]], list[Link]]:
    """The places of every row, and the pieces of the arrows between them."""
    level = {box.key: number for number, row in enumerate(rows) for box in row}
    places: list[list[Place]] = [[(box.key,) for box in row] for row in rows]
    links: list[Link] = []
    for source, target in arrows:
        way = _way((source, target), level[source], level[target])
        for number, place in enumerate(way[1:-1], level[source] + 1):
            places[number].append(place)
        links += pairwise(way)
    return places, links


def _way(arrow: Arrow, start: int, stop: int) -> list[Place]:
    """The places of an arrow from row `start` to row `stop`, its ends included."""
    source, target = arrow
    return [(source,), *((source, target, str(number)) for number in range(start + 1, stop)), (target,)]


def _neighbours(links: Sequence[Link]) -> tuple[dict[Place, list[Place]], dict[Place, list[Place]]]:
    """For every place those that it is joined with in the row above, and in the row below."""
    above: dict[Place, list[Place]] = {}
    below: dict[Place, list[Place]] = {}
    for upper, lower in links:
        above.setdefault(lower, []).append(upper)
        below.setdefault(upper, []).append(lower)
    return above, below


def _order(places: list[list[Place]], links: Sequence[Link]) -> list[list[Place]]:
    """The places of every row in the order with the fewest crossings of some sweeps: up and down, each place goes to
    the mean of those it is joined with in the row before."""
    above, below = _neighbours(links)
    order = best = [list(row) for row in places]
    fewest = _crossings(order, below)
    for sweep in range(SWEEPS):
        downwards = sweep % 2 == 0
        joined = above if downwards else below
        order = [list(row) for row in order]
        for number in range(1, len(order)) if downwards else range(len(order) - 2, -1, -1):
            before = {place: at for at, place in enumerate(order[number - 1 if downwards else number + 1])}
            wanted = {
                place: _mean([before[other] for other in joined.get(place, ())], at)
                for at, place in enumerate(order[number])
            }
            order[number].sort(key=wanted.__getitem__)
            _swap_neighbours(order, number, above, below)
        crossings = _crossings(order, below)
        if crossings < fewest:
            best, fewest = order, crossings
    return best


def _swap_neighbours(
    order: list[list[Place]], number: int, above: Mapping[Place, list[Place]], below: Mapping[Place, list[Place]]
) -> None:
    """Swaps places of a row with the next one as long as that leaves fewer crossings with both rows beside it."""
    row = order[number]
    beside = [
        (joined, {place: at for at, place in enumerate(order[other])})
        for joined, other in ((above, number - 1), (below, number + 1))
        if 0 <= other < len(order)
    ]
    better = True
    while better:
        better = False
        for at in range(len(row) - 1):
            left, right = row[at], row[at + 1]
            now = swapped = 0
            for joined, place in beside:
                for one in joined.get(left, ()):
                    for other in joined.get(right, ()):
                        now += place[one] > place[other]
                        swapped += place[one] < place[other]
            if swapped < now:
                row[at], row[at + 1] = right, left
                better = True


def _crossings(order: Sequence[Sequence[Place]], below: Mapping[Place, list[Place]]) -> int:
    """How many pairs of pieces cross."""
    count = 0
    for upper, lower in pairwise(order):
        places = {place: at for at, place in enumerate(lower)}
        ends = [end for place in upper for end in sorted(places[other] for other in below.get(place, ()))]
        count += sum(later < end for at, end in enumerate(ends) for later in ends[at + 1 :])
    return count


def _centres(
    order: Sequence[Sequence[Place]], links: Sequence[Link], widths: Mapping[Place, float]
) -> dict[Place, float]:
    """Where every place has its middle, in pixels from the left: near the mean of those that it is joined with."""
    above, below = _neighbours(links)
    centres: dict[Place, float] = {}
    for row in order:
        centres |= _apart(row, [0.0] * len(row), widths)
    for sweep in range(SIDEWAYS_SWEEPS):
        for row in order if sweep % 2 == 0 else reversed(order):
            # Within an arrow that passes several rows a way straight down matters most.
            joined = {place: (*above.get(place, ()), *below.get(place, ())) for place in row}
            wanted = [
                _mean(
                    [
                        centres[other]
                        for other in others
                        for _ in range(STRAIGHT if len(place) > 1 and len(other) > 1 else 1)
                    ],
                    centres[place],
                )
                for place, others in joined.items()
            ]
            centres |= _apart(row, wanted, widths)
    left = min(centre - widths[place] / 2 for place, centre in centres.items())
    return {place: centre - left + MARGIN for place, centre in centres.items()}


def _apart(row: Sequence[Place], wanted: Sequence[float], widths: Mapping[Place, float]) -> dict[Place, float]:
    """The middles nearest to those `wanted`, in the sense of least squares, that keep the places of a row in order and
    apart. (Isotonic regression by pooling adjacent violators; arrows that pass weigh more, so that they are straight.)
    """
    offsets = [0.0]
    for left, right in pairwise(row):
        offsets.append(offsets[-1] + (widths[left] + widths[right]) / 2 + GAP)
    pools: list[tuple[float, float, int]] = []
    for place, want, offset in zip(row, wanted, offsets, strict=True):
        mean, weight, count = want - offset, 1.0 if len(place) == 1 else 4.0, 1
        while pools and pools[-1][0] > mean:
            other, more, places = pools.pop()
            mean, weight, count = (mean * weight + other * more) / (weight + more), weight + more, count + places
        pools.append((mean, weight, count))
    means = [mean for mean, _, count in pools for _ in range(count)]
    return {place: mean + offset for place, mean, offset in zip(row, means, offsets, strict=True)}


def _mean(values: Sequence[float], without: float) -> float:
    return fsum(values) / len(values) if values else without


def _ports(links: Sequence[Link], centres: Mapping[Place, float], boxes: Mapping[str, Box]) -> dict[Link, list[float]]:
    """Where every piece leaves its upper and reaches its lower place: arrows of one box beside each other, in the order
    of their other ends."""
    ports = {link: [centres[link[0]], centres[link[1]]] for link in links}
    for end in (0, 1):
        of_place: dict[Place, list[Link]] = {}
        for link in links:
            of_place.setdefault(link[end], []).append(link)
        for place, own in of_place.items():
            step = min(PORT, boxes[place[0]].width * 0.8 / len(own)) if len(place) == 1 else 0
            for at, link in enumerate(sorted(own, key=lambda link: centres[link[1 - end]])):
                ports[link][end] += (at - (len(own) - 1) / 2) * step
    return ports


def _curve(way: Sequence[Place], start: int, ports: Mapping[Link, Sequence[float]]) -> str:
    """An arrow from row `start` along its places."""
    path: list[str] = []
    for row, link in enumerate(pairwise(way), start):
        (left, right), top, bottom = ports[link], _top(row) + BOX_HEIGHT, _top(row + 1)
        if not path:
            path.append(f"M{left:.1f} {top}")
        middle = (top + bottom) / 2
        path.append(f"C{left:.1f} {middle:.0f} {right:.1f} {middle:.0f} {right:.1f} {bottom}")
        if row - start + 2 < len(way):
            path.append(f"V{bottom + BOX_HEIGHT}")
    return f'<path d="{" ".join(path)}" fill="none" stroke="#5b6470" stroke-width="1.1" marker-end="url(#tip)"/>'


def _box(box: Box, centre: float, row: int) -> str:
    fill, stroke = COLOURS[box.kind]
    top = _top(row)
    notes = "".join(
        f'<text x="{centre:.1f}" y="{top + 28 + 12 * number}" font-size="10.5" fill="#4a5058">{escape(line)}</text>'
        for number, line in enumerate(box.lines)
    )
    return (
        f'<rect x="{centre - box.width / 2:.1f}" y="{top}" width="{box.width:.1f}" height="{BOX_HEIGHT}" rx="6" '
        f'fill="{fill}" stroke="{stroke}"/>'
        f'<text x="{centre:.1f}" y="{top + 15}" font-size="13" font-weight="bold" fill="{stroke}">'
        f"{escape(box.name)}</text>{notes}"
    )


def _top(row: int) -> int:
    return MARGIN + ROW_HEIGHT * row
