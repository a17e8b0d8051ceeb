/**
 * How maps and segments are called, and which frames a segment has.
 */

import { clock } from "../shared/text.js";
import { filled, said } from "../shared/words.js";

/**
 * @param {any} segment
 * @param {number} index
 * @param {number} fps
 */
export function segmentName({ beat, next_beat, span }, index, fps) {
    const beats = next_beat === null ? filled("beat {0}", beat + 1) : filled("from beat {0} to {1}", beat + 1, next_beat + 1);
    const [start, stop] = span.map((/** @type {number} */ frame) => clock(frame / fps));
    return filled("{0}: {1}, {2} to {3}", index + 1, beats, start, stop);
}

/**
 * Whether a frame lies in a span, which in a loop may wrap around the end.
 * @param {[number, number]} span
 * @param {number} frame
 * @param {number} frames
 */
export function contains([start, stop], frame, frames) {
    return [frame, frame + frames].some((one) => start <= one && one < stop);
}

/**
 * @param {any} map
 * @returns {string}
 */
export function nameOf(map) {
    return map.kind === "point" ? said("attention of the point") : map.name || said("all subjects");
}
