/**
 * Latent frames, pictures and seconds, as kvshare_core/timeline.py counts them.
 */

import { rounded } from "../shared/text.js";

/**
 * @typedef {{fps: number, scale: number, loop: boolean, latent_frames: number, frames: number}} Times
 * @typedef {{start: number, stop: number, duration: {text: string, value: number, unit: string} | null}} TimedBeat
 */

/**
 * Pictures that the first latent frames decode to.
 * @param {Times} times
 * @param {number} frame
 */
export function picturesUntil(times, frame) {
    if (times.loop) {
        return times.scale * frame;
    }
    return frame <= 0 ? 0 : times.scale * (frame - 1) + 1;
}

/**
 * Where in the video a picture stands, in latent frames.
 * @param {Times} times
 * @param {number} picture
 */
export function frameOfPicture(times, picture) {
    return times.loop ? picture / times.scale : picture <= 1 ? picture : (picture - 1) / times.scale + 1;
}

/**
 * How long a beat of latent frames is written, in the unit in which it is written now.
 * @param {Times} times
 * @param {TimedBeat} beat
 * @param {number} frames
 */
export function durationText(times, beat, frames) {
    const pictures = picturesUntil(times, beat.start + frames) - picturesUntil(times, beat.start);
    const unit = beat.duration?.unit ?? "seconds";
    if (unit === "latent frames") {
        return `${frames}l`;
    }
    return unit === "frames" ? `${pictures}f` : `${rounded(pictures / times.fps)}s`;
}

/**
 * The durations of both parts of a beat that is split after so many latent frames; null where a part would have none.
 * @param {Times} times
 * @param {TimedBeat} beat
 * @param {number} frames
 * @returns {[string, string] | null}
 */
export function splitDurations(times, beat, frames) {
    if (frames < 1 || frames >= beat.stop - beat.start) {
        return null;
    }
    const first = durationText(times, beat, frames);
    if (beat.duration === null) {
        const rest = { ...beat, start: beat.start + frames };
        return [first, durationText(times, rest, beat.stop - rest.start)];
    }
    const rest = beat.duration.value - parseFloat(first);
    const unit = first.slice(-1);
    return rest > 0 ? [first, `${unit === "s" ? rounded(rest, 6) : rest}${unit}`] : null;
}
