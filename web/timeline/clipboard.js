/**
 * Copies, cuts and pastes beats as lines of the film's text.
 */

import { stripped } from "./script_words.js";

/**
 * @param {any} root The editor; no clipboard event in it reaches the canvas.
 * @param {any} lane Where a beat has the focus.
 * @param {{ready: () => boolean, text: () => string, insert: (lines: string) => void, cut: () => void}} beats Whether
 * beats can be edited, the selected one's lines, what to do with pasted lines, and with a beat that was cut.
 */
export function useClipboard(root, lane, beats) {
    const use = (/** @type {ClipboardEvent} */ event) => {
        event.stopPropagation();
        if (!lane.contains(event.target) || !beats.ready() || !event.clipboardData) {
            return;
        }
        event.preventDefault();
        if (event.type === "paste") {
            const lines = stripped(event.clipboardData.getData("text/plain"));
            if (lines !== "") {
                beats.insert(lines);
            }
            return;
        }
        event.clipboardData.setData("text/plain", beats.text());
        if (event.type === "cut") {
            beats.cut();
        }
    };
    for (const kind of ["copy", "cut", "paste"]) {
        root.addEventListener(kind, use);
    }
}
