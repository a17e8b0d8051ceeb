/**
 * Attention of a point to each latent frame: bars above the scrubber; a click goes to the frame.
 */

import { element } from "../shared/dom.js";
import { percent } from "../shared/text.js";
import { filled } from "../shared/words.js";

export class Curve {
    #goTo;
    #bars = /** @type {any[]} */ ([]);
    #point = /** @type {any} */ (null);
    #chosen = 0;

    /**
     * @param {(frame: number) => void} goTo Shows that frame of the video.
     */
    constructor(goTo) {
        this.#goTo = goTo;
        this.root = element("div", {
            class: "kvs-curve",
            role: "slider",
            tabindex: 0,
            "aria-label": "Attention of the point to each part of the video",
            keydown: (/** @type {KeyboardEvent} */ event) => this.#key(event),
        });
    }

    /**
     * @param {any} point The point's data from Python; null hides the curve.
     */
    show(point) {
        this.#point = point;
        this.root.hidden = point === null;
        this.#bars = point === null ? [] : point.frames.map((/** @type {any} */ _, index) => this.#bar(index));
        this.root.replaceChildren(...this.#bars);
        this.root.setAttribute("aria-valuemin", "1");
        this.root.setAttribute("aria-valuemax", String(this.#bars.length));
    }

    /**
     * Marks the bar of the shown frame.
     * @param {number} frame
     */
    mark(frame) {
        if (this.#point === null) {
            return;
        }
        this.#bars[this.#chosen]?.classList.remove("kvs-now");
        this.#chosen = barOf(this.#point, frame);
        this.#bars[this.#chosen].classList.add("kvs-now");
        this.root.setAttribute("aria-valuenow", String(this.#chosen + 1));
        this.root.setAttribute("aria-valuetext", this.#label(this.#chosen));
    }

    /**
     * @param {number} index
     */
    #bar(index) {
        const { frames, spans, frame } = this.#point;
        const [start, stop] = spans[index];
        const height = frames[index] / Math.max(...frames);
        return element("span", {
            class: barOf(this.#point, frame) === index ? "kvs-frame kvs-origin" : "kvs-frame",
            style: `flex-grow: ${stop - start}; --kvs-part: ${height.toFixed(4)}`,
            title: this.#label(index),
            click: () => this.#goTo(start),
        });
    }

    /**
     * @param {number} index
     */
    #label(index) {
        const [start, stop] = this.#point.spans[index];
        const part = percent(this.#point.frames[index]);
        return stop - start === 1
            ? filled("Frame {0}: {1} of its attention to the video", stop, part)
            : filled("Frames {0} to {1}: {2} of its attention to the video", start + 1, stop, part);
    }

    /**
     * @param {KeyboardEvent} event
     */
    #key(event) {
        const last = this.#bars.length - 1;
        const [before, after] = [Math.max(this.#chosen - 1, 0), Math.min(this.#chosen + 1, last)];
        const wanted = { ArrowLeft: before, ArrowDown: before, ArrowRight: after, ArrowUp: after, Home: 0, End: last }[
            event.key
        ];
        if (wanted !== undefined && !event.ctrlKey && !event.metaKey && !event.altKey) {
            event.preventDefault();
            this.#goTo(this.#point.spans[wanted][0]);
        }
    }
}

/**
 * The latent frame that contains a video frame.
 * @param {any} point
 * @param {number} frame
 * @returns {number}
 */
export function barOf({ spans }, frame) {
    return spans.findIndex((/** @type {[number, number]} */ [start, stop]) => start <= frame && frame < stop);
}
