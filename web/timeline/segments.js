/**
 * The segments below the beats: what each evaluates, what of it is shown, and the sources that it attends to.
 */

import { drawing } from "../shared/dom.js";

export const HUES = [212, 152, 32, 282, 184, 346, 92, 248];
const WINDOW_ROWS = 2;
const ROW_HEIGHT = 13;
const SOURCE_HEIGHT = 20;
const [TOP, HEIGHT] = [4, ROW_HEIGHT - 3];
const BASE = TOP + WINDOW_ROWS * ROW_HEIGHT;
const MOST_SOURCES = 40;
/** More segments than this are drawn as one shape for every colour: thousands of shapes would block the page. */
const MOST_SHAPES = 400;

/**
 * SVG elements for the segments, and the height that they take.
 * @param {any[]} segments
 * @param {number} selected The selected beat.
 * @param {number} scale Pixels per latent frame.
 */
export function drawnSegments(segments, selected, scale) {
    const draw = segments.length > MOST_SHAPES ? drawnTogether : drawnSingly;
    return { parts: draw(segments, selected, scale), height: BASE + SOURCE_HEIGHT };
}

/**
 * @param {any[]} segments
 * @param {number} selected
 * @param {number} scale
 */
function drawnSingly(segments, selected, scale) {
    return segments.flatMap((segment, index) => {
        const y = top(index);
        const [start, stop] = [segment.start * scale, segment.stop * scale];
        const mine = isOf(segment, selected);
        const kind = `${mine ? "kvs-mine" : ""} ${segment.next_beat === null ? "" : "kvs-between"}`;
        const style = `--kvs-hue: ${hueOf(segment)}`;
        // In a long film, only the sources of the selected beat are drawn.
        const sources = mine || segments.length <= MOST_SOURCES ? segment.sources : [];
        return [
            drawing("rect", { x: start, y, width: stop - start, height: HEIGHT, rx: 2, class: `kvs-reach ${kind}`, style }),
            drawing("path", { d: shapeOf(segment, y, scale), class: `kvs-window ${kind}`, style }),
            ...sources.map((/** @type {number} */ source) =>
                drawing("path", { d: bend(segments[source], segment, scale), class: `kvs-source ${kind}`, style }),
            ),
        ];
    });
}

/**
 * @param {any[]} segments
 * @param {number} selected
 * @param {number} scale
 */
function drawnTogether(segments, selected, scale) {
    /** @type {Map<string, {hue: number, kind: string, shapes: string[]}>} */
    const groups = new Map();
    segments.forEach((segment, index) => {
        const hue = hueOf(segment);
        const kind = isOf(segment, selected) ? "kvs-mine" : "";
        const group = groups.get(hue + kind) ?? { hue, kind, shapes: [] };
        groups.set(hue + kind, group);
        group.shapes.push(shapeOf(segment, top(index), scale));
    });
    return [...groups.values()].map(({ hue, kind, shapes }) =>
        drawing("path", { d: shapes.join(""), class: `kvs-window kvs-many ${kind}`, style: `--kvs-hue: ${hue}` }),
    );
}

/**
 * @param {number} index
 */
function top(index) {
    return TOP + (index % WINDOW_ROWS) * ROW_HEIGHT;
}

/**
 * @param {any} segment
 */
function hueOf(segment) {
    return HUES[segment.beat % HUES.length];
}

/**
 * @param {any} segment
 * @param {number} beat
 */
function isOf(segment, beat) {
    return segment.beat === beat || segment.next_beat === beat;
}

/**
 * What is shown of a segment, with its fades.
 * @param {any} segment
 * @param {number} y
 * @param {number} scale
 */
function shapeOf({ shown, rise, fall }, y, scale) {
    const [from, to] = [shown[0] * scale, shown[1] * scale];
    const full = from + rise * scale;
    return `M${from} ${y + HEIGHT}L${full} ${y}L${Math.max(to - fall * scale, full)} ${y}L${to} ${y + HEIGHT}Z`;
}

/**
 * @param {any} source
 * @param {any} target
 * @param {number} scale
 */
function bend(source, target, scale) {
    const [x1, x2] = [source, target].map(({ shown }) => ((shown[0] + shown[1]) / 2) * scale);
    const depth = Math.min(SOURCE_HEIGHT, 6 + Math.abs(x2 - x1) / 12) * 1.6;
    return `M${x2} ${BASE}C${x2} ${BASE + depth} ${x1} ${BASE + depth} ${x1} ${BASE}`;
}
