/**
 * How maps and segments are called, and which frames a segment has.
 */

import { clock } from "../shared/text.js";

/**
 * @param {any} segment
 * @param {number} index
 * @param {number} fps
 */
export function segmentName({ beat, next_beat, span }, index, fps) {
    const beats = next_beat === null ? `beat ${beat + 1}` : `from beat ${beat + 1} to ${next_beat + 1}`;
    const [start, stop] = span.map((/** @type {number} */ frame) => clock(frame / fps));
    return `${index + 1}: ${beats}, ${start} to ${stop}`;
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
    return map.kind === "point" ? "attention of the point" : map.name || "all subjects";
}
