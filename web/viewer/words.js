/**
 * Text lines about the words behind a mask: which words named the subject in each beat, and the positions of their
 * tokens.
 */

import { filled, said } from "../shared/words.js";

/**
 * @typedef {[string, number[]][]} Named
 */

/**
 * One line per beat; several where all subjects are shown together.
 * @param {any} data
 * @param {any} map One of its maps.
 * @returns {string[]}
 */
export function wordLines(data, map) {
    if (map.kind === "point") {
        return [said("Bright areas get the most attention from the ringed point.")];
    }
    const own = map.words.length > 0 ? [map] : data.maps;
    const maps = own.filter((/** @type {any} */ one) => one.words.length > 0);
    if (maps.length === 0) {
        return [said("No words for this subject: it comes from a connected mask or a loaded run.")];
    }
    return maps.flatMap((/** @type {any} */ { name, words }) =>
        words.map((/** @type {any} */ named, /** @type {number} */ beat) => filled("Beat {0}, {1}: {2}", beat + 1, name, path(named))),
    );
}

/**
 * @param {{subject: Named, others: Named} | null} words
 */
function path(words) {
    if (words === null) {
        return said("not shown");
    }
    const against = words.others.length > 0 ? `, ${filled("against {0}", listed(words.others))}` : "";
    return `${listed(words.subject)}${against}`;
}

/**
 * @param {Named} named
 */
function listed(named) {
    return named.map(([word, places]) => `${word ? `“${word}” ` : ""}${tokens(places)}`).join(", ");
}

/**
 * @param {number[]} places
 */
function tokens(places) {
    return `(${filled(places.length === 1 ? "token {0}" : "tokens {0}", places.join(", "))})`;
}
