/**
 * The buttons above the timeline, and the line that reports what an edit did.
 */

import { element } from "../shared/dom.js";
import { ZOOM } from "./keys.js";

const CONVERT = "Convert this JSON film to the text form, which can be edited here";

export class Toolbar {
    /**
     * @param {import("./keys.js").Actions & {convert: () => void}} actions
     */
    constructor(actions) {
        const button = (/** @type {string} */ name, /** @type {string} */ title, /** @type {() => void} */ act) =>
            element("button", { type: "button", title, "aria-label": title, click: () => act() }, name);
        this.undo = button("↶", "Undo (Ctrl+Z)", actions.undo);
        this.redo = button("↷", "Redo (Ctrl+Y)", actions.redo);
        this.ofBeat = [
            button("Split", "Split the beat in two (S)", actions.split),
            button("Duplicate", "Duplicate the beat (D)", actions.duplicate),
            button("Delete", "Delete the beat (Delete)", actions.delete),
        ];
        this.convert = button("Convert to text", CONVERT, actions.convert);
        this.status = element("span", { class: "kvs-said", role: "status", "aria-live": "polite" });
        this.root = element(
            "div",
            { class: "kvs-bar", role: "toolbar", "aria-label": "Timeline" },
            button("+ Beat", "Add a beat after the selected one (A)", actions.add),
            ...this.ofBeat,
            this.undo,
            this.redo,
            this.convert,
            this.status,
            button("−", "Zoom out (-)", () => actions.zoom(1 / ZOOM)),
            button("Fit", "Show the whole film (0)", () => actions.zoom(0)),
            button("+", "Zoom in (+)", () => actions.zoom(ZOOM)),
        );
    }

    /**
     * Enables the buttons that can be used now.
     * @param {boolean} editable Whether the selected beat can be edited.
     * @param {{canUndo: boolean, canRedo: boolean}} history
     * @param {boolean} json Whether the film is in the JSON form.
     */
    show(editable, history, json) {
        this.convert.hidden = !json;
        for (const button of this.ofBeat) {
            button.disabled = !editable;
        }
        this.undo.disabled = !history.canUndo;
        this.redo.disabled = !history.canRedo;
    }

    /**
     * @param {string} message
     */
    say(message) {
        this.status.textContent = this.status.title = message;
    }
}
