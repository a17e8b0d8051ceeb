/**
 * Changes to parts of a text, and its lines.
 */

/**
 * [start, stop) in a text.
 * @typedef {[number, number]} Place
 */

/** @typedef {{start: number, stop: number, insert: string}} Change */
/** @typedef {{content: string, ending: string}} Line */

/**
 * @param {Place} place
 * @param {string} insert
 * @returns {Change}
 */
export function change(place, insert) {
    return { start: place[0], stop: place[1], insert };
}

/**
 * The text with changes that do not overlap.
 * @param {string} text
 * @param {Change[]} changes
 */
export function changed(text, changes) {
    const parts = [];
    let place = 0;
    for (const { start, stop, insert } of changes.toSorted(inOrder)) {
        parts.push(text.slice(place, start), insert);
        place = stop;
    }
    return parts.join("") + text.slice(place);
}

/**
 * A part of the text, with the changes that lie in it.
 * @param {string} text
 * @param {Place} part
 * @param {Change[]} changes
 */
export function changedPart(text, [first, last], changes) {
    const inside = changes.filter(({ start, stop }) => start >= first && stop <= last);
    return changed(
        text.slice(first, last),
        inside.map((one) => ({ ...one, start: one.start - first, stop: one.stop - first })),
    );
}

/**
 * Insertions come before replacements at the same place.
 * @param {Change} one
 * @param {Change} other
 */
function inOrder(one, other) {
    return one.start - other.start || one.stop - other.stop;
}

/**
 * Removes lines with their line breaks; of the lines at the end of a text without a last line break, the one before them.
 * @param {string} text
 * @param {Place[]} lines From the first to the last.
 * @returns {Change[]}
 */
export function withoutLines(text, lines) {
    let end = /[\r\n]$/.test(text) ? Infinity : text.length;
    return lines.toReversed().map(([start, stop]) => {
        if (stop < end) {
            return { start, stop, insert: "" };
        }
        const before = { start: text.slice(0, start).replace(/(\r\n|\r|\n)$/, "").length, stop: end, insert: "" };
        end = before.start;
        return before;
    });
}

/**
 * @param {string} text
 * @returns {Line[]}
 */
export function linesOf(text) {
    const parts = text.split(/(\r\n|\r|\n)/);
    return Array.from({ length: (parts.length + 1) / 2 }, (_, number) => ({
        content: parts[2 * number],
        ending: parts[2 * number + 1] ?? "",
    }));
}

/**
 * Where the lines begin, and the end of the text.
 * @param {string} text
 */
export function lineStarts(text) {
    const starts = [0];
    for (const { content, ending } of linesOf(text)) {
        starts.push(starts[starts.length - 1] + content.length + ending.length);
    }
    return starts;
}

/**
 * Lines as text, each but the last with a line break.
 * @param {Line[]} lines
 * @param {string} ending
 */
export function joined(lines, ending) {
    return lines
        .map((line, number) => line.content + (number < lines.length - 1 ? line.ending || ending : ""))
        .join("");
}

/**
 * Lines with their line breaks replaced.
 * @param {string} lines
 * @param {string} ending
 */
export function withEnding(lines, ending) {
    return lines.replace(/\r\n|\r|\n/g, ending);
}

/**
 * The line break used in the text.
 * @param {string} text
 */
export function lineEnding(text) {
    return text.match(/\r\n|\r|\n/)?.[0] ?? "\n";
}

/**
 * The film with a line before everything else, such as a subject of all beats.
 * @param {string} text
 * @param {string} line
 */
export function withFirstLine(text, line) {
    return `${line}${lineEnding(text)}${text}`;
}
