/**
 * The mask viewer in AttentionMaskPreview: the frames of the last run, overlaid with heatmaps or masks. Its data comes
 * from Python when the node has run (kvshare_core/host/files/viewer.py). The node works the same without this module.
 */

import { element, options } from "../shared/dom.js";
import { addPanel, keepKey } from "../shared/panel.js";
import { clock, percent, rounded } from "../shared/text.js";
import { filled, said, translated } from "../shared/words.js";
import { Aim } from "./aim.js";
import { barOf, Curve } from "./curve.js";
import { lookSections } from "./looks.js";
import { Player } from "./player.js";
import { drawOutline, drawRing } from "./ring.js";
import { loadPicture, Maps, Sheet } from "./sheet.js";
import { contains, nameOf, segmentName } from "./names.js";
import { Shown } from "./shown.js";
import { wordLines } from "./words.js";

const [NAME, ANSWER] = ["kvshare_viewer", "kvshare_view"];
const NOT_CONNECTED = "Connect record directly to Mask-Guided KV Share to set its look_at.";
const [HEIGHT, WIDTH] = [470, 420];
const LEAST_SIDE = 480; // Smaller frames are drawn larger, so that lines on them are thin.

/**
 * Adds the viewer to a node.
 * @param {any} node
 * @param {any} app The frontend's app object.
 * @param {any} api
 */
export function addViewer(node, app, api) {
    if (typeof node.addDOMWidget !== "function") {
        return;
    }
    const viewer = new Viewer(api, new Shown(node, app));
    const look = new URL("./viewer.css", import.meta.url);
    addPanel(node, NAME, viewer.root, { height: HEIGHT, width: WIDTH, look, close: () => viewer.pause() });
    viewer.shown.follow((opacity) => viewer.setOpacity(opacity));
    const executed = node.onExecuted;
    node.onExecuted = function (/** @type {any} */ output) {
        const [data] = output?.[ANSWER] ?? [];
        if (data) {
            viewer.show(data);
        }
        return executed?.apply(this, arguments);
    };
}

class Viewer {
    #api;
    #data = /** @type {any} */ (null);
    #frames = /** @type {Sheet | null} */ (null);
    #maps = /** @type {Maps[]} */ ([]);
    /** @type {{x: number, y: number, frame: number} | null} */
    #picked = null;

    /**
     * @param {any} api
     * @param {Shown} shown What the node's own inputs say is shown.
     */
    constructor(api, shown) {
        this.#api = api;
        this.shown = shown;
        this.#build();
        this.#enable(false);
    }

    #build() {
        const draw = () => this.#draw();
        const range = (/** @type {string} */ name, /** @type {Record<string, any>} */ more) =>
            element("input", { type: "range", "aria-label": name, title: name, ...more });
        this.player = new Player((place) => {
            this.scrub.value = place;
            this.#draw();
        });
        this.player.button.addEventListener("click", () => this.#toggle());
        const go = () => this.#goTo(this.#place);
        this.scrub = range("Frame", { class: "kvs-scrub", min: 0, max: 0, value: 0, input: go });
        this.curve = new Curve((frame) => this.#goToFrame(frame));
        this.time = element("output", { class: "kvs-time" });
        this.subject = element("select", { change: () => this.#chooseSubject() });
        this.layer = element(
            "select",
            { change: draw },
            element("option", { value: "heat" }, "heat"),
            element("option", { value: "mask" }, "mask"),
        );
        this.step = element("select", { change: () => this.#chooseStep() });
        this.stepField = element("label", {}, "Step", this.step);
        this.segment = element("select", { change: () => this.#goToSegment() });
        this.ownFrame = element("input", { type: "checkbox", change: () => this.#chooseOwnFrame() });
        this.ownField = element("label", { class: "kvs-check" }, this.ownFrame, "This frame only");
        this.opacity = range("Opacity", { min: 0, max: 1, step: 0.05, value: 0.6, input: draw });
        this.opacity.addEventListener("change", () => this.shown.setOpacity(Number(this.opacity.value)));
        this.covered = element("output", { class: "kvs-covered" });
        this.canvas = element("canvas", { class: "kvs-screen", tabindex: 0, role: "img" });
        this.aim = new Aim(this.canvas, (x, y) => this.#choosePoint(x, y));
        this.words = element("ul", { class: "kvs-lines kvs-words", "aria-label": "Words that named the subject" });
        this.looks = element("div", { class: "kvs-looks", tabindex: 0, role: "region" });
        this.looks.setAttribute("aria-label", said("Attention of the point to words"));
        this.message = element("div", { class: "kvs-message kvs-hint", role: "status" });
        this.message.textContent = said("Run the workflow to see where the subject was found.");
        this.notice = element("div", { class: "kvs-notice", role: "status", hidden: true });
        this.root = element(
            "div",
            { class: "kvs-viewer", keydown: (/** @type {KeyboardEvent} */ event) => this.#key(event) },
            this.message,
            this.notice,
            this.canvas,
            element(
                "div",
                { class: "kvs-bar", role: "toolbar", "aria-label": "Frames" },
                this.player.button,
                element("div", { class: "kvs-over" }, this.curve.root, this.scrub),
                this.time,
                this.aim.button,
            ),
            this.aim.status,
            this.covered,
            element(
                "div",
                { class: "kvs-fields" },
                element("label", { class: "kvs-grow" }, "Subject", this.subject),
                element("label", {}, "Draw", this.layer),
                this.stepField,
                this.ownField,
                element("label", { class: "kvs-grow" }, "Segment", this.segment),
                element("label", { class: "kvs-grow" }, "Opacity", this.opacity),
            ),
            this.words,
            this.looks,
        );
        this.#showPoint(null);
    }

    /**
     * Writes a point of the shown frame for the next run; returns what came of it.
     * @param {number} x
     * @param {number} y
     */
    #choosePoint(x, y) {
        const frame = this.#data.frames[this.#place];
        const point = `${rounded(x, 3)}, ${rounded(y, 3)}, ${frame}`;
        if (!this.shown.setPoint(point)) {
            return said(NOT_CONNECTED);
        }
        this.#picked = { x, y, frame };
        this.#draw();
        return filled("look_at is set to {0}. Run again to see its attention.", point);
    }

    /**
     * Shows the result of a run.
     * @param {any} data
     */
    async show(data) {
        this.pause();
        this.aim.stop();
        this.#data = data;
        this.notice.textContent = (data.notices ?? []).map(translated).join("\n");
        this.notice.hidden = !this.notice.textContent;
        this.root.setAttribute("aria-busy", "true");
        try {
            const files = [data.picture, ...data.maps.map((/** @type {any} */ map) => map.picture)];
            const [frames, ...maps] = await Promise.all(files.map((file) => loadPicture(this.#api, file)));
            if (data !== this.#data) {
                return;
            }
            this.#frames = new Sheet(frames, data.size, data.columns);
            this.#maps = maps.map(
                (map, index) => new Maps(new Sheet(map, data.maps[index].size, data.columns), data.colours),
            );
            this.#fill();
        } catch {
            this.#frames = null;
            this.message.textContent = said("The images of the last run are gone. Run the workflow again.");
        }
        this.#enable(this.#frames !== null);
        this.root.setAttribute("aria-busy", "false");
        this.#draw();
    }

    pause() {
        this.player.pause();
    }

    /**
     * @param {number} opacity
     */
    setOpacity(opacity) {
        this.opacity.value = opacity;
        this.#draw();
    }

    /** Number of the shown tile. */
    get #place() {
        return Number(this.scrub.value);
    }

    get #count() {
        return this.#data?.frames.length ?? 0;
    }

    #fill() {
        const data = this.#data;
        this.player.load(data);
        const factor = Math.ceil(LEAST_SIDE / Math.max(...data.size));
        [this.canvas.width, this.canvas.height] = data.size.map((/** @type {number} */ side) => side * factor);
        this.scrub.max = this.#count - 1;
        this.scrub.value = Math.min(this.#place, this.#count - 1);
        this.opacity.value = data.opacity;
        const names = data.maps.map(nameOf);
        this.subject.replaceChildren(...options(names));
        const wanted = data.show === "look_at" || (this.#picked && data.point) ? "point" : data.subject ? "subject" : "all";
        const index = data.maps.findIndex(
            (/** @type {any} */ map) => map.kind === wanted && (wanted !== "subject" || map.name === data.subject),
        );
        this.subject.value = String(Math.max(index, 0));
        this.#picked = null;
        const segments = data.segments.map((/** @type {any} */ one, /** @type {number} */ index) => segmentName(one, index, data.fps));
        this.segment.replaceChildren(...options(segments));
        this.#choose();
    }

    /** Shows another subject, which the node's outputs then show too. */
    #chooseSubject() {
        this.shown.setMap(this.#data.maps[Number(this.subject.value)]);
        this.#choose();
    }

    #choose() {
        const map = this.#data.maps[Number(this.subject.value)];
        // The attention map of a point has no mask.
        this.layer.disabled = map.kind === "point";
        this.stepField.hidden = map.steps.length === 0;
        const names = [said("last"), ...map.steps.map((/** @type {number} */ step) => filled("after {0}", step + 1))];
        this.step.replaceChildren(...options(names));
        this.words.replaceChildren(...wordLines(this.#data, map).map((line) => element("li", {}, line)));
        this.#showPoint(map.kind === "point" ? this.#data.point : null);
        this.#draw();
    }

    /**
     * @param {any} point Data of the chosen point; null if something else is shown.
     */
    #showPoint(point) {
        this.curve.show(point);
        this.ownField.hidden = this.looks.hidden = point === null;
        this.ownFrame.checked = false;
        this.looks.replaceChildren(...(point === null ? [] : lookSections(this.#data)));
    }

    /** Goes to the point's frame, because other frames would show nothing. */
    #chooseOwnFrame() {
        if (this.ownFrame.checked) {
            this.#goToFrame(this.#data.point.frame);
        }
        this.#draw();
    }

    /** Earlier steps only have masks. */
    #chooseStep() {
        if (this.step.value !== "0") {
            this.layer.value = "mask";
        }
        this.#draw();
    }

    /**
     * @param {boolean} ready
     */
    #enable(ready) {
        this.message.hidden = ready;
        this.canvas.hidden = !ready;
        this.root.classList.toggle("kvs-empty", !ready);
        const buttons = [this.player.button, this.scrub, this.aim.button];
        for (const control of [...buttons, this.subject, this.layer, this.step, this.segment, this.ownFrame, this.opacity]) {
            control.disabled = !ready || (control === this.layer && this.layer.disabled);
        }
    }

    /**
     * @param {number} place
     */
    #goTo(place) {
        this.scrub.value = place;
        this.player.goOnFrom(this.#place);
        this.#draw();
    }

    #toggle() {
        if (this.player.playing) {
            this.pause();
        } else {
            this.#goTo(this.#place === this.#count - 1 ? 0 : this.#place);
            this.player.play();
        }
    }

    #goToSegment() {
        const [start] = this.#data.segments[Number(this.segment.value)].span;
        this.#goToFrame(start % this.#data.frame_count);
    }

    /**
     * Goes to the first shown frame at or after a frame of the video.
     * @param {number} begin
     */
    #goToFrame(begin) {
        const first = this.#data.frames.findIndex((/** @type {number} */ frame) => frame >= begin);
        this.#goTo(first < 0 ? this.#count - 1 : first);
    }

    #draw() {
        if (!this.#frames) {
            return;
        }
        const data = this.#data;
        const place = this.#place;
        const { width, height } = this.canvas;
        const screen = /** @type {any} */ (this.canvas.getContext("2d"));
        const masked = this.layer.value === "mask" && !this.layer.disabled;
        screen.globalAlpha = 1;
        screen.imageSmoothingEnabled = true;
        screen.drawImage(this.#frames.picture, ...this.#frames.box(place), 0, 0, width, height);
        screen.globalAlpha = Number(this.opacity.value);
        screen.imageSmoothingEnabled = !masked;
        const map = this.#maps[Number(this.subject.value)];
        const painted = masked ? map.mask(place, Number(this.step.value) - 1) : map.heat(place, this.ownFrame.checked);
        screen.drawImage(painted, 0, 0, width, height);
        const frame = data.frames[place];
        this.curve.mark(frame);
        this.#drawMask(screen, map, place);
        this.#drawPoint(screen, frame);
        this.time.textContent = filled("{0} of {1}, {2}", frame + 1, data.frame_count, clock(frame / data.fps));
        this.time.title = data.videos > 1 ? filled("The first of {0} videos", data.videos) : "";
        this.scrub.setAttribute("aria-valuetext", this.time.textContent);
        const subject = this.subject.selectedOptions[0].text;
        this.canvas.setAttribute("aria-label", filled("Frame {0}, {1}", this.time.textContent, subject));
        const shows = (/** @type {any} */ segment) => contains(segment.span, frame, data.frame_count);
        if (!shows(data.segments[Number(this.segment.value)])) {
            this.segment.value = String(Math.max(data.segments.findIndex(shows), 0));
        }
    }

    /**
     * Draws the outline of the mask, since heat may have the subject's own colour, and says how much of the frame it is.
     * @param {any} screen
     * @param {Maps} map
     * @param {number} place
     */
    #drawMask(screen, map, place) {
        this.covered.hidden = this.layer.disabled;
        if (this.layer.disabled) {
            return;
        }
        const { lines, part } = map.outline(place, Number(this.step.value) - 1);
        if (Number(this.opacity.value) > 0) {
            drawOutline(screen, lines);
        }
        this.covered.textContent = filled("Mask: {0} of the frame", percent(part));
    }

    /**
     * Draws a ring around the chosen point, in the video frames of its latent frame.
     * @param {any} screen
     * @param {number} frame
     */
    #drawPoint(screen, frame) {
        const { point } = this.#data;
        if (this.#picked?.frame === frame) {
            drawRing(screen, this.#picked);
        }
        if (this.looks.hidden || barOf(point, frame) !== barOf(point, point.frame)) {
            return;
        }
        drawRing(screen, point);
    }

    /**
     * @param {KeyboardEvent} event
     */
    #key(event) {
        keepKey(event);
        const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        const free = this.canvas === event.target || this.scrub === event.target;
        if (!this.#frames || event.ctrlKey || event.metaKey || event.altKey || !free) {
            return;
        }
        if (event.key === " ") {
            event.preventDefault();
            this.#toggle();
        } else if (way) {
            event.preventDefault();
            this.pause();
            this.#goTo((this.#place + way + this.#count) % this.#count);
        }
    }
}
