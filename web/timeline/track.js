/**
 * The film from left to right: ruler, beats, and below them the segments that are evaluated. During a drag only widths
 * and transforms change; listeners are called when it ends.
 */

import { drawing, element } from "../shared/dom.js";
import { clock, rounded } from "../shared/text.js";
import { filled, said } from "../shared/words.js";
import { drawnSegments, HUES } from "./segments.js";
import { durationText, frameOfPicture, picturesUntil } from "./timing.js";

const BEAT_TOP = 30;
const LEAST_TICK = 64;
const LABEL_WIDTH = 26;
const MOVE_FROM = 5;
const MOST_ZOOM = 120;

/**
 * @typedef {object} Listener
 * @property {(index: number) => void} select
 * @property {(index: number, duration: string) => void} resize
 * @property {(from: number, to: number) => void} move
 */

export class Track {
    /** @type {any[]} */
    #beats = [];
    #answer = /** @type {any} */ (null);
    #selected = 0;
    #zoom = 1;
    #editable = true;
    #running = -1;
    /** @type {Map<number, string>} */
    #wrong = new Map();
    /** @type {HTMLElement[]} */
    #blocks = [];

    /**
     * @param {Listener} listener
     */
    constructor(listener) {
        this.listener = listener;
        this.ruler = drawing("svg", { class: "kvs-ruler", "aria-hidden": true });
        this.lane = element("div", { class: "kvs-beats", role: "group", "aria-label": "Beats" });
        this.later = element("div", { class: "kvs-later" });
        this.windows = drawing("svg", { class: "kvs-windows", "aria-hidden": true });
        this.mark = element("div", { class: "kvs-mark", hidden: true });
        this.film = element("div", { class: "kvs-film" }, this.ruler, this.lane, this.windows, this.mark);
        this.root = element("div", { class: "kvs-scroll", wheel: (/** @type {WheelEvent} */ event) => this.#wheel(event) });
        this.root.append(this.film);
        new ResizeObserver(() => this.draw()).observe(this.root);
    }

    /**
     * @param {any} answer A plan with times.
     * @param {number} selected
     * @param {boolean} editable
     * @param {Map<number, string>} [wrong] What is wrong with beats, by their index.
     */
    show(answer, selected, editable, wrong = new Map()) {
        this.#wrong = wrong;
        this.#answer = answer;
        this.#beats = answer.beats;
        this.#selected = selected;
        this.#editable = editable;
        this.draw();
    }

    /** Pixels per latent frame. */
    get scale() {
        return (Math.max(this.root.clientWidth - 2, 60) / this.#answer.latent_frames) * this.#zoom;
    }

    /**
     * @param {number} factor 0 shows the whole film.
     */
    zoom(factor) {
        this.#zoom = Math.min(Math.max(factor === 0 ? 1 : this.#zoom * factor, 1), MOST_ZOOM);
        this.draw();
        this.#blocks[this.#selected]?.scrollIntoView({ block: "nearest", inline: "nearest" });
    }

    /**
     * Focuses a beat.
     * @param {number} index
     */
    focus(index) {
        controlOf(this.#blocks[index])?.focus({ preventScroll: true });
        this.#blocks[index]?.scrollIntoView({ block: "nearest", inline: "nearest" });
    }

    /**
     * Highlights the running segment, if the film still has the segments of the run.
     * @param {number} segment -1 for none.
     * @param {number} segments
     */
    running(segment, segments) {
        this.#running = segments === this.#answer?.segments?.length ? segment : -1;
        this.#markRunning();
    }

    #markRunning() {
        this.windows
            .querySelectorAll(".kvs-window:not(.kvs-many)")
            .forEach((/** @type {Element} */ window, /** @type {number} */ index) =>
                window.classList.toggle("kvs-running", index === this.#running),
            );
    }

    draw() {
        if (!this.#answer || this.root.clientWidth === 0) {
            return;
        }
        const width = this.scale * this.#answer.latent_frames;
        this.film.style.width = `${width}px`;
        this.#drawRuler(width);
        this.#drawBeats();
        this.#drawWindows(width);
    }

    /**
     * @param {number} width
     */
    #drawRuler(width) {
        const { fps, frames } = this.#answer;
        const { scale } = this;
        const perSecond = width / Math.max(frames / fps, 0.001);
        const steps = [0.1, 0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600];
        const step = steps.find((one) => one * perSecond >= LEAST_TICK) ?? 1200;
        const parts = [];
        for (let time = 0; time * fps <= frames; time += step) {
            const picture = Math.round(time * fps);
            const x = frameOfPicture(this.#answer, picture) * scale;
            parts.push(drawing("line", { x1: x, x2: x, y1: 0, y2: BEAT_TOP }));
            if (x + LABEL_WIDTH <= width) {
                parts.push(
                    drawing("text", { x: x + 4, y: 11 }, clock(time)),
                    drawing("text", { x: x + 4, y: 23, class: "kvs-frames" }, `${picture}f`),
                );
            }
        }
        this.ruler.replaceChildren(...parts);
        this.ruler.setAttribute("width", String(width));
    }

    #drawBeats() {
        while (this.#blocks.length < this.#beats.length) {
            this.#blocks.push(this.#block(this.#blocks.length));
        }
        for (const block of this.#blocks.splice(this.#beats.length)) {
            block.remove();
        }
        // Asked once: the page is laid out anew for every answer after a change.
        const { scale } = this;
        this.#beats.forEach((beat, index) => this.#drawBeat(this.#blocks[index], beat, index, scale));
    }

    /**
     * @param {HTMLElement} block
     * @param {any} beat
     * @param {number} index
     * @param {number} scale Pixels per latent frame.
     */
    #drawBeat(block, beat, index, scale) {
        const seconds = this.#secondsOf(beat);
        const chosen = index === this.#selected;
        const transition = beat.transition ? `, ${filled("begins with {0}", beat.transition)}` : "";
        block.style.transform = `translateX(${beat.start * scale}px)`;
        block.style.width = `${(beat.stop - beat.start) * scale}px`;
        block.style.setProperty("--kvs-hue", String(HUES[index % HUES.length]));
        block.classList.toggle("kvs-chosen", chosen);
        block.classList.toggle("kvs-open", beat.duration === null);
        const wrong = this.#wrong.get(index);
        block.classList.toggle("kvs-wrong", wrong !== undefined);
        block.title =
            wrong ?? `${beat.prompt}\n${clock(seconds)}${beat.duration ? "" : ` (${said("one segment")})`}${transition}`;
        const control = controlOf(block);
        control.tabIndex = chosen ? 0 : -1;
        control.setAttribute("aria-pressed", String(chosen));
        control.setAttribute(
            "aria-label",
            filled("Beat {0} of {1}, {2} seconds: {3}", index + 1, this.#beats.length, rounded(seconds), `${beat.prompt}${transition}${wrong ? `. ${wrong}` : ""}`),
        );
        control.setAttribute("aria-invalid", String(wrong !== undefined));
        const [number, prompt, time, joint] = /** @type {any} */ (block.children);
        number.textContent = String(index + 1);
        prompt.textContent = beat.prompt;
        time.textContent = beat.duration ? beat.duration.text : `${rounded(seconds)}s`;
        joint.textContent = beat.transition ?? "";
        joint.hidden = !beat.transition;
    }

    /**
     * @param {number} index
     */
    #block(index) {
        const block = element(
            "div",
            { class: "kvs-beat", pointerdown: (/** @type {PointerEvent} */ event) => this.#grab(event, index) },
            element("span", { class: "kvs-number" }),
            element("span", { class: "kvs-prompt" }),
            element("span", { class: "kvs-length" }),
            element("span", { class: "kvs-joint" }),
            // An input, because the frontend ignores keys in inputs, above all Ctrl+Z.
            element("input", {
                class: "kvs-control",
                type: "button",
                click: () => this.listener.select(index),
                focus: () => index !== this.#selected && this.listener.select(index),
            }),
            element("span", { class: "kvs-handle" }),
        );
        this.lane.append(block);
        return block;
    }

    /**
     * @param {number} width
     */
    #drawWindows(width) {
        const { parts, height } = drawnSegments(this.#answer.segments ?? [], this.#selected, this.scale);
        this.windows.replaceChildren(...parts);
        this.windows.setAttribute("width", String(width));
        this.windows.setAttribute("height", String(height));
        this.#markRunning();
    }

    /**
     * @param {any} beat
     */
    #secondsOf(beat) {
        return (picturesUntil(this.#answer, beat.stop) - picturesUntil(this.#answer, beat.start)) / this.#answer.fps;
    }

    /**
     * Starts resizing or moving a beat.
     * @param {PointerEvent} event
     * @param {number} index
     */
    #grab(event, index) {
        if (event.button !== 0 || !this.#editable) {
            return;
        }
        const block = this.#blocks[index];
        const box = block.getBoundingClientRect();
        const edge = event.pointerType === "touch" ? 22 : 9;
        const drag = {
            event,
            index,
            // The canvas may be zoomed.
            ratio: block.offsetWidth / Math.max(box.width, 1),
            resizes: box.right - event.clientX <= Math.min(edge, box.width / 3),
            moved: 0,
            started: false,
            frame: 0,
            to: index,
            frames: 0,
        };
        if (event.pointerType === "touch" && !drag.resizes && index !== this.#selected) {
            return;
        }
        block.setPointerCapture(event.pointerId);
        const follow = (/** @type {PointerEvent} */ now) => {
            drag.moved = (now.clientX - event.clientX) * drag.ratio;
            drag.started ||= Math.abs(drag.moved) >= (drag.resizes ? 1 : MOVE_FROM);
            if (drag.started && drag.frame === 0) {
                drag.frame = requestAnimationFrame(() => {
                    drag.frame = 0;
                    this.#preview(drag);
                });
            }
        };
        const end = (/** @type {PointerEvent} */ last) => {
            block.removeEventListener("pointermove", follow);
            block.removeEventListener("pointerup", end);
            block.removeEventListener("pointercancel", end);
            cancelAnimationFrame(drag.frame);
            if (drag.started) {
                this.#preview(drag);
                this.#finish(drag, last.type === "pointerup");
            }
        };
        block.addEventListener("pointermove", follow);
        block.addEventListener("pointerup", end);
        block.addEventListener("pointercancel", end);
    }

    /**
     * @param {any} drag
     */
    #preview(drag) {
        const beat = this.#beats[drag.index];
        const block = this.#blocks[drag.index];
        // Asked once, before anything changes: the page is laid out anew for every answer after a change.
        const { scale } = this;
        if (drag.resizes) {
            const length = beat.stop - beat.start;
            drag.frames = Math.max(1, Math.round(length + drag.moved / scale));
            const shift = (drag.frames - length) * scale;
            block.style.width = `${drag.frames * scale}px`;
            if (this.later.parentElement === null) {
                // All later beats move as one element.
                this.later.append(...this.#blocks.slice(drag.index + 1));
                this.lane.append(this.later);
            }
            this.later.style.transform = `translateX(${shift}px)`;
            block.children[2].textContent = durationText(this.#answer, drag.index, drag.frames);
            return;
        }
        const start = beat.start * scale + drag.moved;
        block.style.transform = `translateX(${start}px)`;
        block.classList.add("kvs-dragged");
        const centre = start + ((beat.stop - beat.start) * scale) / 2;
        const centres = this.#beats.map((one) => ((one.start + one.stop) / 2) * scale);
        drag.to = centres.filter((one, index) => index !== drag.index && one < centre).length;
        const after = drag.to > drag.index ? this.#beats[drag.to].stop : this.#beats[drag.to].start;
        this.mark.hidden = drag.to === drag.index;
        this.mark.style.transform = `translateX(${after * scale - 1}px)`;
    }

    /**
     * @param {any} drag
     * @param {boolean} accepted
     */
    #finish(drag, accepted) {
        const beat = this.#beats[drag.index];
        this.mark.hidden = true;
        this.later.style.transform = "";
        this.lane.append(...this.later.children);
        this.later.remove();
        this.#blocks[drag.index].classList.remove("kvs-dragged");
        if (accepted && drag.resizes && drag.frames !== beat.stop - beat.start) {
            this.listener.resize(drag.index, durationText(this.#answer, drag.index, drag.frames));
        } else if (accepted && !drag.resizes && drag.to !== drag.index) {
            this.listener.move(drag.index, drag.to);
        } else {
            this.draw();
        }
    }

    /**
     * @param {WheelEvent} event
     */
    #wheel(event) {
        if (event.ctrlKey || event.metaKey) {
            event.preventDefault();
            event.stopPropagation();
            this.zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2);
        } else if (this.root.scrollWidth > this.root.clientWidth) {
            event.preventDefault();
            event.stopPropagation();
            this.root.scrollLeft += event.deltaX || event.deltaY;
        }
    }
}

/**
 * The focusable element of a beat.
 * @param {HTMLElement | undefined} block
 * @returns {any}
 */
function controlOf(block) {
    return block?.querySelector(".kvs-control");
}
