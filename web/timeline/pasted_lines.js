/**
 * Offers to join lines of prose that were pasted into the text: every line is a beat of its own.
 */

import { element } from "../shared/dom.js";
import { filled, said } from "../shared/words.js";
import { lineEnding } from "./text_changes.js";

const TOLD = "The {0} pasted lines are as many beats.";
const LEAST_LINES = 2;
const LEAST_LENGTH = 12;

export class PastedLines {
    /** @type {{text: string, joined: string, lines: number} | null} */
    #pasted = null;

    /**
     * @param {(text: string) => void} join Writes the film with the lines joined.
     */
    constructor(join) {
        this.said = element("span");
        const button = element("button", { type: "button", click: () => this.#pasted && join(this.#pasted.joined) });
        button.textContent = said("Join lines");
        this.root = element("div", { class: "kvs-pasted kvs-bar", role: "status", hidden: true }, this.said, button);
    }

    /**
     * Looks for pasted prose in a change of the text that was not made in the editor.
     * @param {string} before
     * @param {string} now
     */
    found(before, now) {
        this.#pasted = pastedProse(before, now);
    }

    /**
     * @param {string} text The text that is shown.
     */
    show(text) {
        if (this.#pasted?.text !== text) {
            this.#pasted = null;
        }
        this.root.hidden = this.#pasted === null;
        this.said.textContent = this.#pasted ? filled(TOLD, this.#pasted.lines) : "";
    }
}

/**
 * Several lines of prose that were put into a text at once, and the text with them joined; null if there are none.
 * @param {string} before
 * @param {string} now
 */
export function pastedProse(before, now) {
    const most = Math.min(before.length, now.length);
    let start = 0;
    while (start < most && before[start] === now[start]) {
        start++;
    }
    let end = 0;
    while (end < most - start && before[before.length - 1 - end] === now[now.length - 1 - end]) {
        end++;
    }
    const inserted = now.slice(start, now.length - end);
    const lines = inserted.split(/\r\n|\r|\n/).map((line) => line.trim()).filter(Boolean);
    const prose = lines.every((line) => line.length >= LEAST_LENGTH && !/^[[#{|`]|\s\|\s|^\w+:\s/.test(line));
    if (lines.length < LEAST_LINES || !prose) {
        return null;
    }
    const edge = (/** @type {RegExp} */ place) => (place.test(inserted) ? lineEnding(now) : "");
    const joined = edge(/^\s*[\r\n]/) + lines.join(" ") + edge(/[\r\n]\s*$/);
    return { text: now, joined: now.slice(0, start) + joined + now.slice(now.length - end), lines: lines.length };
}
