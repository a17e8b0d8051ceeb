/**
 * Attention of a point to words, as bars, and attention between the words, as a table.
 */

import { element } from "../shared/dom.js";
import { percent } from "../shared/text.js";
import { filled, said } from "../shared/words.js";

/**
 * @param {any} data
 * @returns {HTMLElement[]}
 */
export function lookSections(data) {
    const { texts, segments } = data.point;
    const silent = segments.filter(
        (/** @type {number} */ segment) => !texts.some((/** @type {any} */ text) => text.segment === segment),
    );
    return [
        ...texts.map(sectionOf),
        ...silent.map((/** @type {number} */ segment) =>
            element("p", {}, filled("Segment {0}: the words of its prompt are not known.", segment + 1)),
        ),
    ];
}

/**
 * @param {any} text One of the texts that the point attends to.
 */
function sectionOf(text) {
    const title = titleOf(text);
    return element(
        "section",
        { "aria-label": title },
        element("p", {}, title),
        element("ul", { class: "kvs-bars" }, ...bars(text)),
        ...(text.between === null ? [] : [wordTable(text)]),
    );
}

/**
 * @param {any} text
 */
function titleOf({ segment, beat, weight, looks, between }) {
    const all = looks.reduce((/** @type {number} */ sum, /** @type {number} */ one) => sum + one, 0);
    const among = between === null ? said("attention to the words") : filled("words get {0} of its attention", percent(all));
    return weight === 1
        ? filled("Segment {0}, beat {1}: {2}", segment + 1, beat + 1, among)
        : filled("Segment {0}, beat {1}, weight {2}: {3}", segment + 1, beat + 1, percent(weight), among);
}

/**
 * @param {any} text
 */
function bars({ words, looks }) {
    const most = Math.max(...looks);
    return words.map((/** @type {string} */ word, /** @type {number} */ place) =>
        element(
            "li",
            { style: `--kvs-part: ${(looks[place] / (most || 1)).toFixed(4)}`, title: percent(looks[place]) },
            element("span", { class: "kvs-word" }, word),
            element("span", { class: "kvs-part" }, percent(looks[place])),
        ),
    );
}

/**
 * @param {any} text
 */
function wordTable({ words, between }) {
    const most = Math.max(...between.flat());
    const head = words.map((/** @type {string} */ word) => element("th", { scope: "col" }, word));
    const cell = (/** @type {number} */ part, /** @type {number} */ to) =>
        element(
            "td",
            { style: `--kvs-part: ${(part / (most || 1)).toFixed(4)}`, title: `${words[to]}: ${percent(part)}` },
            String(Math.round(100 * part)),
        );
    const rows = between.map((/** @type {number[]} */ row, /** @type {number} */ place) =>
        element("tr", {}, element("th", { scope: "row" }, words[place]), ...row.map(cell)),
    );
    return element(
        "details",
        {},
        element("summary", {}, "Attention between the words"),
        element(
            "div",
            { class: "kvs-table", tabindex: 0, role: "region", "aria-label": "Attention between words" },
            element(
                "table",
                {},
                element("caption", {}, "Each row is a query word; columns show its attention to each word, in percent."),
                element("thead", {}, element("tr", {}, element("td"), ...head)),
                element("tbody", {}, ...rows),
            ),
        ),
    );
}
