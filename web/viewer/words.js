/**
 * From words to a mask, told in words: which of them named the subject in every beat, and at which places their tokens
 * stand in the text that the model reads.
 */

/**
 * @typedef {[string, number[]][]} Named
 */

/**
 * One line for every beat; several lines where all subjects are shown together.
 * @param {any} told
 * @param {any} map One of its maps.
 * @returns {string[]}
 */
export function wordLines(told, map) {
    if (map.kind === "point") {
        return ["Bright is what the model looks at from the ringed point."];
    }
    const own = map.words.length > 0 ? [map] : told.maps;
    const maps = own.filter((/** @type {any} */ one) => one.words.length > 0);
    if (maps.length === 0) {
        return ["No words named this subject: it comes from a connected mask, or from a run that was loaded."];
    }
    return maps.flatMap((/** @type {any} */ { name, words }) =>
        words.map((/** @type {any} */ said, /** @type {number} */ beat) => `Beat ${beat + 1}, ${name}: ${path(said)}`),
    );
}

/**
 * @param {{subject: Named, others: Named} | null} words
 */
function path(words) {
    if (words === null) {
        return "not shown";
    }
    const against = words.others.length > 0 ? `, against ${listed(words.others)}` : "";
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
    return `(${places.length === 1 ? "token" : "tokens"} ${places.join(", ")})`;
}
