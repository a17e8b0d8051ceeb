/**
 * Plays the shown frames at the video's speed, with the button that starts and stops it.
 */

import { element } from "../shared/dom.js";
import { said } from "../shared/words.js";

export class Player {
    #show;
    #video = /** @type {any} */ (null);
    #place = 0;
    #request = 0;
    #begun = 0;

    /**
     * @param {(place: number) => void} show Shows the frame with that number among the shown ones.
     */
    constructor(show) {
        this.#show = show;
        this.button = element("button", { type: "button" });
        this.#drawButton();
    }

    get playing() {
        return this.#request !== 0;
    }

    /**
     * @param {{frames: number[], frame_count: number, fps: number}} video The shown frames' numbers in the video, and
     * the video's length.
     */
    load(video) {
        this.#video = video;
        this.#place = 0;
    }

    /**
     * Plays on from a frame, now or when `play` is called next.
     * @param {number} place
     */
    goOnFrom(place) {
        this.#place = place;
        this.#begun = performance.now() - this.#seconds(this.#video.frames[place]) * 1000;
    }

    play() {
        const step = () => {
            const now = ((performance.now() - this.#begun) / 1000) % this.#seconds(this.#video.frame_count);
            const { frames } = this.#video;
            const later = frames.findIndex((/** @type {number} */ frame) => this.#seconds(frame) > now);
            const place = (later < 0 ? frames.length : Math.max(later, 1)) - 1;
            if (place !== this.#place) {
                this.#place = place;
                this.#show(place);
            }
            this.#request = requestAnimationFrame(step);
        };
        this.#request = requestAnimationFrame(step);
        this.#drawButton();
    }

    pause() {
        cancelAnimationFrame(this.#request);
        this.#request = 0;
        this.#drawButton();
    }

    /**
     * @param {number} frame
     */
    #seconds(frame) {
        return frame / this.#video.fps;
    }

    #drawButton() {
        const name = said(this.playing ? "Pause (Space)" : "Play (Space)");
        this.button.textContent = this.playing ? "❚❚" : "▶";
        this.button.title = name;
        this.button.setAttribute("aria-label", name);
    }
}
