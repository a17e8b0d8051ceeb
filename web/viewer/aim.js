/**
 * Choosing a point of the shown frame: a button that makes the next click on the frame choose it, and a status line.
 */

import { element } from "../shared/dom.js";
import { said } from "../shared/words.js";

const TITLE = "Choose a point: its attention map is shown after the next run";

export class Aim {
    #canvas;
    #choose;

    /**
     * @param {HTMLCanvasElement} canvas Shows the frame, scaled to fit the element and centred in it.
     * @param {(x: number, y: number) => string} choose Takes a point, as fractions of width and height; returns a message.
     */
    constructor(canvas, choose) {
        this.#canvas = canvas;
        this.#choose = choose;
        this.button = element("button", { type: "button", title: TITLE, "aria-label": TITLE }, "Point");
        this.button.addEventListener("click", () => this.#set(!this.#aiming));
        this.status = element("span", { class: "kvs-aim", role: "status", "aria-live": "polite" });
        canvas.addEventListener("click", (event) => this.#click(event));
        this.stop();
    }

    /**
     * The next click chooses nothing.
     * @param {string} [message]
     */
    stop(message = "") {
        this.#set(false, message);
    }

    get #aiming() {
        return this.button.getAttribute("aria-pressed") === "true";
    }

    /**
     * @param {boolean} aiming
     * @param {string} [message]
     */
    #set(aiming, message = "") {
        this.button.setAttribute("aria-pressed", String(aiming));
        this.#canvas.classList.toggle("kvs-aiming", aiming);
        this.status.textContent = aiming ? said("Click a place in the frame.") : message;
        this.status.hidden = this.status.textContent === "";
    }

    /**
     * @param {MouseEvent} event
     */
    #click(event) {
        this.#canvas.focus();
        const box = this.#canvas.getBoundingClientRect();
        const scale = Math.min(box.width / this.#canvas.width, box.height / this.#canvas.height);
        const [x, y] = [
            (event.clientX - box.left - box.width / 2) / (this.#canvas.width * scale) + 0.5,
            (event.clientY - box.top - box.height / 2) / (this.#canvas.height * scale) + 0.5,
        ];
        if (this.#aiming && Math.min(x, y) >= 0 && Math.max(x, y) <= 1) {
            this.stop(this.#choose(x, y));
        }
    }
}
