/**
 * The line under the buttons: why the film cannot be read or planned, and the way to its place in the text.
 */

import { element } from "../shared/dom.js";
import { said, translated } from "../shared/words.js";

const EMPTY = "No beats yet. Write one prompt per line above, or add a beat.";

export class Message {
    #text;

    /**
     * @param {any} text The `prompts` widget.
     */
    constructor(text) {
        this.#text = text;
        this.root = element("button", { type: "button", class: "kvs-message", click: () => this.#goThere() });
    }

    /**
     * @param {string} text The text of the film.
     * @param {{message: string, at: number | null} | null} error
     */
    show(text, error) {
        const empty = text.trim() === "";
        this.root.textContent = empty ? said(EMPTY) : translated(error?.message ?? "");
        this.root.hidden = !empty && !error;
        this.root.classList.toggle("kvs-hint", empty);
        this.root.dataset.at = empty || error?.at === null || error?.at === undefined ? "" : String(error.at);
    }

    #goThere() {
        const field = this.#field();
        if (this.root.dataset.at && field) {
            field.focus();
            field.setSelectionRange(Number(this.root.dataset.at), Number(this.root.dataset.at));
        }
    }

    /** The field of the text: the widget's own, or the one that the frontend draws in its place. */
    #field() {
        const own = this.#text.inputEl ?? this.#text.element;
        if (own?.isConnected) {
            return own;
        }
        const fields = this.root.closest("[data-node-id]")?.querySelectorAll("textarea") ?? [];
        const others = [...fields].filter((field) => !field.closest(".kvs-panel"));
        return others.find((field) => field.value === this.#text.value) ?? null;
    }
}

/**
 * A message of the reader without the line and column, which a field of the editor does not have.
 * @param {string} message
 */
export function withoutPlace(message) {
    return message.replace(/^prompts(, line \d+, column \d+)?: /, "");
}
