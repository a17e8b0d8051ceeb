/**
 * Edits to the text of a film, as pure functions from text to text. Everything not edited stays as the user typed it:
 * comments, empty lines, order and spelling. The positions of a beat's parts come from Python
 * (kvshare_core/script/editor_places.py); nothing is parsed here.
 */

import { isRemark, promptText, protectedStart, strippedEnd, withoutBrace, withoutOrigin } from "./script_words.js";
import {
    change,
    changed,
    changedPart,
    joined,
    lineEnding,
    lineStarts,
    linesOf,
    withoutLines,
    withEnding,
} from "./text_changes.js";

/** @typedef {import("./text_changes.js").Place} Place */
/** @typedef {import("./text_changes.js").Change} Change */
/** @typedef {import("./text_changes.js").Line} Line */

/**
 * A field after a prompt. `named`, `sources` and `list` belong to a subject or source field with sources: the part
 * before `from`, the sources (beats counted from 1), and the position of their list.
 * @typedef {{name: string, place: Place, value: Place, named?: Place, sources?: (string | number)[], list?: Place}} Field
 */

/**
 * A beat of a film in text form. `lines`: its first line, that of its prompt and its last, counted from 0.
 * @typedef {object} Beat
 * @property {string} prompt
 * @property {{text: string, value: number, unit: string} | null} duration
 * @property {string | null} transition
 * @property {[number, number, number]} lines
 * @property {{prompt: Place, duration: Place | null, transition: Place | null}} places
 * @property {Field[]} fields
 */

/**
 * Where a beat of a rearranged film comes from: the original beat, counted from 0, and a new duration, if any. A `copy`
 * has no transition and no comments, and sources are never renumbered to it.
 * @typedef {{beat: number, duration?: string, copy?: boolean}} Origin
 */

/**
 * Replaces a prompt.
 * @param {string} text
 * @param {Beat[]} beats
 * @param {number} index
 * @param {string} prompt
 */
export function setPrompt(text, beats, index, prompt) {
    const { prompt: place, duration } = beats[index].places;
    return changed(text, [change(place, promptText(prompt, duration !== null))]);
}

/**
 * Sets the text inside the brackets of a duration; null removes the brackets.
 * @param {string} text
 * @param {Beat[]} beats
 * @param {number} index
 * @param {string | null} duration
 */
export function setDuration(text, beats, index, duration) {
    const own = durationChange(text, beats[index], duration);
    return changed(text, [...own, ...plainClocks(text, beats, index + 1)]);
}

/**
 * Sets the text inside the brackets of a transition; null removes the line.
 * @param {string} text
 * @param {Beat[]} beats
 * @param {number} index
 * @param {string | null} transition
 */
export function setTransition(text, beats, index, transition) {
    const { lines, places } = beats[index];
    const changes = transition?.startsWith("segments") ? plainClocks(text, beats, index) : [];
    const starts = lineStarts(text);
    if (places.transition === null && transition !== null) {
        const start = starts[lines[1]];
        changes.push({ start, stop: start, insert: `[${transition}]${lineEnding(text)}` });
    } else if (places.transition !== null && transition === null) {
        changes.push({ start: starts[lines[0]], stop: starts[lines[0] + 1], insert: "" });
    } else if (places.transition !== null) {
        changes.push(change(places.transition, `[${transition}]`));
    }
    return changed(text, changes);
}

/**
 * Replaces all fields of one name in a beat with these values, written as given.
 * @param {string} text
 * @param {Beat[]} beats
 * @param {number} index
 * @param {string} name
 * @param {string[]} values
 */
export function setFields(text, beats, index, name, values) {
    const beat = beats[index];
    const own = beat.fields.filter((field) => field.name === name);
    const changes = own.slice(0, values.length).map((field, place) => {
        const gap = field.value[0] === field.value[1] ? " " : "";
        return change(field.value, gap + values[place]);
    });
    changes.push(...withoutFields(text, beat, new Set(own.slice(values.length))));
    const end = endOf(beat);
    const more = values.slice(own.length).map((value) => ` | ${name}: ${value}`);
    if (more.length > 0) {
        changes.push({ start: end, stop: end, insert: more.join("") });
    }
    return changed(text, changes);
}

/**
 * Moves a beat: before the beat at the new place, or after it when moving towards the end.
 * @param {string} text
 * @param {Beat[]} beats
 * @param {number} from
 * @param {number} to
 */
export function moveBeat(text, beats, from, to) {
    const order = beats.map((_, beat) => ({ beat }));
    order.splice(to, 0, ...order.splice(from, 1));
    return rearranged(text, beats, order);
}

/**
 * Inserts a copy of a beat after it.
 * @param {string} text
 * @param {Beat[]} beats
 * @param {number} index
 */
export function duplicateBeat(text, beats, index) {
    const order = beats.map((_, beat) => ({ beat }));
    return rearranged(text, beats, order.toSpliced(index + 1, 0, { beat: index, copy: true }));
}

/**
 * Splits a beat in two, with these durations.
 * @param {string} text
 * @param {Beat[]} beats
 * @param {number} index
 * @param {[string, string]} durations
 */
export function splitBeat(text, beats, index, durations) {
    /** @type {Origin[]} */
    const order = beats.map((_, beat) => ({ beat }));
    const parts = durations.map((duration, part) => ({ beat: index, duration, copy: part > 0 }));
    return rearranged(text, beats, order.toSpliced(index, 1, ...parts));
}

/**
 * Deletes a beat; comments between its lines stay.
 * @param {string} text
 * @param {Beat[]} beats
 * @param {number} index
 */
export function deleteBeat(text, beats, index) {
    return rearranged(
        text,
        beats,
        beats.map((_, beat) => ({ beat })).filter(({ beat }) => beat !== index),
    );
}

/**
 * The film with lines of more beats appended. Parsing this in Python gives the positions of the new beats' parts, which
 * `insertBeats` needs.
 * @param {string} text
 * @param {string} lines
 */
export function appended(text, lines) {
    const ending = lineEnding(text);
    return (/(^|[\r\n])$/.test(text) ? text : text + ending) + withEnding(lines, ending);
}

/**
 * Inserts lines of more beats after one; their sources are numbered as in this film.
 * @param {string} text
 * @param {Beat[]} beats The beats of the film with the lines appended.
 * @param {number} index
 * @param {string} lines
 */
export function insertBeats(text, beats, index, lines) {
    const longer = appended(text, lines);
    const ending = lineEnding(text);
    const begin = longer.length - withEnding(lines, ending).length;
    const order = beats.map((_, beat) => ({ beat }));
    const fresh = order.filter(({ beat }) => beats[beat].places.prompt[0] >= begin);
    order.splice(index + 1, 0, ...order.splice(beats.length - fresh.length));
    const changes = order.flatMap(({ beat }, place) =>
        place <= index ? [] : [...renumbered(longer, beats[beat], order, place), ...plainClock(longer, beats[beat])],
    );
    const insert = changedPart(longer, [begin, longer.length], changes);
    const own = changes.filter(({ start }) => start < begin);
    const next = beats[index].lines[2] + 1;
    const start = lineStarts(text)[next];
    const atEnd = next === linesOf(text).length;
    return changed(text, [...own, { start, stop: start, insert: atEnd ? ending + insert : insert + ending }]);
}

/**
 * The lines of a beat as typed, without its transition; start and end times are converted to a duration.
 * @param {string} text
 * @param {Beat} beat
 */
export function beatText(text, beat) {
    const starts = lineStarts(text);
    const stop = starts[beat.lines[2]] + linesOf(text)[beat.lines[2]].content.length;
    return withEnding(changedPart(text, [starts[beat.lines[1]], stop], plainClock(text, beat)), "\n");
}

/**
 * The film with its beats in another order. Text between beats stays where it is. Beat numbers used as sources follow
 * their beats; sources that are gone, or no longer earlier, are removed. A transition moves with the beat that follows
 * it; that of the new first beat goes to the one that was first.
 * @param {string} text
 * @param {Beat[]} beats
 * @param {Origin[]} order
 */
function rearranged(text, beats, order) {
    const rows = linesOf(text);
    const other = order.findIndex((origin, place) => origin.beat !== place || origin.duration !== undefined);
    const firstNew = other < 0 ? order.length : other;
    const blocks = order.map((origin, place) => block(text, beats, order, origin, place, firstNew));
    /** @type {Line[]} */
    const result = rows.slice(0, beats[0].lines[0]);
    // Blocks fill the slots of the old ones; additional ones come after the one they were copied from.
    let next = 0;
    for (let slot = 0; slot < beats.length; slot++) {
        const removed = !order.some((origin) => origin.beat === slot) && order.length < beats.length;
        if (removed) {
            result.push(...rows.slice(beats[slot].lines[0], beats[slot].lines[2] + 1).filter((line) => isRemark(line.content)));
        } else {
            do {
                result.push(...blocks[next++]);
            } while (next < order.length && order[next].copy);
        }
        result.push(...rows.slice(beats[slot].lines[2] + 1, beats[slot + 1]?.lines[0]));
    }
    return withoutBrace(joined(result, lineEnding(text)));
}

/**
 * The lines of one beat of a rearranged film.
 * @param {string} text
 * @param {Beat[]} beats
 * @param {Origin[]} order
 * @param {Origin} origin
 * @param {number} place
 * @param {number} firstNew The first place that has a different beat than before.
 * @returns {Line[]}
 */
function block(text, beats, order, origin, place, firstNew) {
    const beat = beats[origin.beat];
    const starts = lineStarts(text);
    const changes = renumbered(text, beat, order, place);
    if (origin.duration !== undefined) {
        changes.push(...durationChange(text, beat, origin.duration));
    } else if (place >= firstNew) {
        changes.push(...plainClock(text, beat));
    }
    const start = starts[beat.lines[0]];
    const stop = starts[beat.lines[2] + 1] ?? text.length;
    if (beat.places.transition !== null && (place === 0 || origin.copy)) {
        changes.push({ start, stop: starts[beat.lines[0] + 1], insert: "" });
    }
    const handed = beats[order[0].beat].places.transition;
    if (origin.beat === 0 && place > 0 && !origin.copy && handed !== null) {
        changes.push({ start, stop: start, insert: text.slice(...handed) + lineEnding(text) });
    }
    const lines = linesOf(changedPart(text, [start, stop], changes));
    const own = lines.length > 1 && lines.at(-1)?.content === "" ? lines.slice(0, -1) : lines;
    return origin.copy ? own.filter((line) => !isRemark(line.content)) : own;
}

/**
 * Changes that renumber the sources of a beat; place: its place in the new order.
 * @param {string} text
 * @param {Beat} beat
 * @param {Origin[]} order
 * @param {number} place
 */
function renumbered(text, beat, order, place) {
    /** @type {Change[]} */
    const changes = [];
    const gone = new Set();
    for (const field of beat.fields) {
        const sources = field.sources ?? [];
        const kept = sources.flatMap((source) => {
            if (typeof source === "string") {
                return [source];
            }
            const found = order.findIndex((origin) => origin.beat === source - 1 && !origin.copy);
            return found >= 0 && found < place ? [found + 1] : [];
        });
        if (kept.length === sources.length && kept.every((source, number) => source === sources[number])) {
            continue;
        }
        if (kept.length > 0 && field.list) {
            const words = kept.map((source) => (typeof source === "number" ? `beat ${source}` : source));
            changes.push(change(field.list, words.join(" and ")));
        } else if (field.name === "source") {
            gone.add(field);
        } else if (field.named) {
            changes.push({ start: field.value[0], stop: field.value[1], insert: withoutOrigin(text.slice(...field.named)) });
        }
    }
    return [...changes, ...withoutFields(text, beat, gone)];
}

/**
 * Changes that remove fields with their bars, and lines that contain nothing else.
 * @param {string} text
 * @param {Beat} beat
 * @param {Set<Field>} gone
 */
function withoutFields(text, beat, gone) {
    /** @type {Change[]} */
    const changes = [];
    /** @type {import("./text_changes.js").Place[]} */
    const lines = [];
    const starts = lineStarts(text);
    for (let line = beat.lines[1]; line <= beat.lines[2]; line++) {
        const [start, stop] = [starts[line], starts[line + 1] ?? text.length];
        const fields = beat.fields.filter((field) => field.place[0] >= start && field.place[0] < stop);
        const bars = fields.map((field) => text.lastIndexOf("|", field.place[0] - 1));
        if (fields.length > 0 && line > beat.lines[1] && fields.every((field) => gone.has(field))) {
            lines.push([start, stop]);
            continue;
        }
        // Fields are removed from the right, so that the rest of the line has no trailing space.
        let open = true;
        for (let number = fields.length - 1; number >= 0; number--) {
            if (!gone.has(fields[number])) {
                open = false;
                continue;
            }
            const end = open ? fields.at(-1)?.place[1] ?? stop : bars[number + 1];
            const from = open ? start + strippedEnd(text.slice(start, bars[number])).length : bars[number];
            const previous = changes.at(-1);
            if (open && previous && previous.start <= end && previous.start >= start) {
                previous.start = from;
            } else {
                changes.push({ start: from, stop: end, insert: "" });
            }
        }
    }
    return [...changes, ...withoutLines(text, lines)];
}

/**
 * @param {string} text
 * @param {Beat} beat
 * @param {string | null} duration
 * @returns {Change[]}
 */
function durationChange(text, beat, duration) {
    const { prompt, duration: place } = beat.places;
    if (duration === null) {
        const bare = protectedStart(text.slice(...prompt));
        return place === null ? [] : [{ start: place[0], stop: prompt[1], insert: bare }];
    }
    return place === null
        ? [{ start: prompt[0], stop: prompt[0], insert: `[${duration}] ` }]
        : [change(place, `[${duration}]`)];
}

/**
 * Changes that convert start and end times to durations, which do not depend on earlier beats.
 * @param {string} text
 * @param {Beat[]} beats
 * @param {number} first
 */
function plainClocks(text, beats, first) {
    return beats.slice(first).flatMap((beat) => plainClock(text, beat));
}

/**
 * @param {string} text
 * @param {Beat} beat
 * @returns {Change[]}
 */
function plainClock(text, beat) {
    const { duration, places } = beat;
    const clock = places.duration !== null && text.slice(...places.duration).includes(":");
    return clock && places.duration && duration ? [change(places.duration, `[${duration.text}]`)] : [];
}

/**
 * Where the last part of a beat ends.
 * @param {Beat} beat
 */
function endOf(beat) {
    return Math.max(beat.places.prompt[1], ...beat.fields.map((field) => field.place[1]));
}
