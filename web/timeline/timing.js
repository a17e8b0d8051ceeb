/**
 * Latent frames, video frames ("pictures") and seconds, counted as in kvshare_core/timeline/timeline.py and planning.py.
 */

/**
 * @typedef {{start: number, stop: number, duration: {value: number, unit: string} | null}} TimedBeat
 * @typedef {{fps: number, scale: number, cycle: number[] | null, loop: boolean, beats: TimedBeat[]}} Times
 */

const DIGITS = [2, 3, 4, 5, 6];

/** @param {number[]} numbers */
const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

/**
 * Number of pictures that the first `frame` latent frames decode to.
 * @param {Times} times
 * @param {number} frame
 */
export function picturesUntil(times, frame) {
    if (times.cycle) {
        const groups = Math.floor(frame / times.cycle.length);
        const rest = times.cycle.slice(0, frame - groups * times.cycle.length);
        return groups * sum(times.cycle) + sum(rest);
    }
    if (times.loop) {
        return times.scale * frame;
    }
    return frame <= 0 ? 0 : times.scale * (frame - 1) + 1;
}

/**
 * Position of a picture in the video, in latent frames.
 * @param {Times} times
 * @param {number} picture
 */
export function frameOfPicture(times, picture) {
    if (times.cycle) {
        const groups = Math.floor(picture / sum(times.cycle));
        let rest = picture - groups * sum(times.cycle);
        let frame = groups * times.cycle.length;
        for (const pictures of times.cycle) {
            frame += Math.min(1, rest / pictures);
            rest = Math.max(0, rest - pictures);
        }
        return frame;
    }
    return times.loop ? picture / times.scale : picture <= 1 ? picture : (picture - 1) / times.scale + 1;
}

/**
 * The duration text for a beat of `frames` latent frames, in its current unit: as short as possible, such that Python
 * plans this beat and the ones after it as they are shown.
 * @param {Times} times
 * @param {number} index
 * @param {number} frames
 */
export function durationText(times, index, frames) {
    const beat = times.beats[index];
    const unit = beat.duration?.unit ?? "seconds";
    if (unit === "latent frames") {
        return `${frames}l`;
    }
    const longer = frames - (beat.stop - beat.start);
    const now = clocks(times, times.beats);
    // First keep the rounding remainder of the current text; if that does not work, drop it.
    const until = picturesUntil(times, now[index].frame + longer);
    const ends = [now[index].pictures + until - picturesUntil(times, now[index].frame), until];
    const near = (/** @type {number} */ end) => {
        const pictures = end - now[index].begin;
        return unit === "frames" ? wholeNear(pictures) : decimalsNear(pictures / times.fps);
    };
    const values = ends.flatMap(near).filter((value) => value > 0);
    const later = times.beats.slice(index + 1).map((one) => ({ ...one, start: one.start + longer, stop: one.stop + longer }));
    const fits = (/** @type {number} */ value, /** @type {number} */ beyond) => {
        const changed = { ...beat, stop: beat.stop + longer, duration: { value, unit } };
        const then = clocks(times, [...times.beats.slice(0, index), changed, ...later]);
        return then.slice(index, beyond).every(({ frame }, place) => frame === now[index + place].frame + longer);
    };
    const value = values.find((one) => fits(one, now.length)) ?? values.find((one) => fits(one, index + 1)) ?? values[0];
    return `${value}${unit === "frames" ? "f" : "s"}`;
}

/**
 * The durations of both parts of a beat split after `frames` latent frames; null if a part would be empty.
 * @param {Times} times
 * @param {number} index
 * @param {number} frames
 * @returns {[string, string] | null}
 */
export function splitDurations(times, index, frames) {
    const { start, stop, duration } = times.beats[index];
    if (frames < 1 || frames >= stop - start) {
        return null;
    }
    const first = durationText(times, index, frames);
    const [value, unit] = [parseFloat(first), duration?.unit ?? "seconds"];
    if (duration !== null && duration.value <= value) {
        return null;
    }
    const parts = [
        { start, stop: start + frames, duration: { value, unit } },
        { start: start + frames, stop, duration: duration && { value: duration.value - value, unit } },
    ];
    const split = { ...times, beats: times.beats.toSpliced(index, 1, ...parts) };
    return [first, durationText(split, index + 1, stop - start - frames)];
}

/**
 * For each beat, the pictures at which it begins and ends according to the script, and the nearest latent frame to its
 * end.
 * @param {Times} times
 * @param {TimedBeat[]} beats
 */
function clocks(times, beats) {
    let [frame, pictures, last] = [0, 0, 0];
    const advance = (/** @type {number} */ frames) => {
        frame += frames;
        pictures = picturesUntil(times, frame);
    };
    return beats.map(({ start, stop, duration }) => {
        if (start > last) {
            // Transition segments, which Python counts in latent frames.
            advance(start - last);
        }
        last = stop;
        const begin = pictures;
        if (duration === null || duration.unit === "latent frames") {
            advance(stop - start);
        } else {
            pictures += duration.unit === "seconds" ? duration.value * times.fps : duration.value;
            if (times.cycle) {
                // Where beats may end in a group depends on what follows, which Python knows.
                frame += stop - start;
                return { begin, pictures, frame };
            }
            const frames = times.loop ? pictures / times.scale : (pictures - 1) / times.scale + 1;
            const nearest = Math.floor(frames + 0.5 + 1e-6);
            if (nearest <= frame) {
                advance(1);
            } else {
                frame = nearest;
            }
        }
        return { begin, pictures, frame };
    });
}

/**
 * @param {number} value
 */
function wholeNear(value) {
    const nearest = Math.round(value);
    return [nearest, nearest + 1, nearest - 1];
}

/**
 * Numbers near the value, those with few digits first.
 * @param {number} value
 */
function decimalsNear(value) {
    return DIGITS.flatMap((digits) =>
        [Math.round, Math.ceil, Math.floor].map((whole) => Number((whole(value * 10 ** digits) / 10 ** digits).toFixed(digits))),
    );
}
