/**
 * The timeline editor in LongVideoSegmenter. The film is the text of the node's `prompts` widget: every edit changes that
 * text, and everything shown comes from Python's plan of it. The node works the same without this module.
 */

import { element } from "../shared/dom.js";
import { addPanel, keepKey } from "../shared/panel.js";
import { afterEveryChange, afterLoading, writeWidget } from "../shared/widgets.js";
import { filled, said, translated } from "../shared/words.js";
import { PlanClient } from "./client.js";
import { useClipboard } from "./clipboard.js";
import * as edits from "./edits.js";
import { History } from "./history.js";
import { Inspector } from "./inspector.js";
import { actionOf } from "./keys.js";
import { Message, withoutPlace } from "./message.js";
import { PastedLines } from "./pasted_lines.js";
import { PlanView } from "./plan_view.js";
import { ProgressView } from "./progress.js";
import { promptText } from "./script_words.js";
import { splitDurations, durationText } from "./timing.js";
import { Toolbar } from "./toolbar.js";
import { Track } from "./track.js";
import { canTake, changedFilm, changesFilm, takeInGraph, wrongBeats } from "./ways.js";

const [TEXT, NAME] = ["prompts", "kvshare_timeline"];
const [HEIGHT, LEAST_WIDTH] = [480, 520];
const [NEW_BEAT, TYPING_MILLISECONDS] = ["a new scene", 120];

/**
 * Adds the editor to a node.
 * @param {any} node
 * @param {any} app The frontend's app object.
 * @param {any} api
 */
export function addTimeline(node, app, api) {
    const text = node.widgets?.find((/** @type {any} */ widget) => widget.name === TEXT);
    if (!text || typeof node.addDOMWidget !== "function") {
        return;
    }
    const editor = new TimelineEditor(node, text, app, api);
    const look = new URL("./timeline.css", import.meta.url);
    const close = () => editor.close();
    addPanel(node, NAME, editor.root, { height: HEIGHT, width: LEAST_WIDTH, look, close, below: TEXT });
}

class TimelineEditor {
    #node;
    #text;
    #app;
    #api;
    #history = new History();
    #answer = /** @type {any} */ (null);
    #answerText = "";
    #selected = 0;
    /** @type {Map<number, string>} */
    #wrong = new Map();
    #own = false;
    #timer = 0;
    #edits = Promise.resolve();

    /**
     * @param {any} node
     * @param {any} text The `prompts` widget.
     * @param {any} app
     * @param {any} api
     */
    constructor(node, text, app, api) {
        this.#node = node;
        this.#text = text;
        this.#app = app;
        this.#api = api;
        this.client = new PlanClient(api, node, (answer, about) => this.#onAnswer(answer, about));
        this.track = new Track({
            select: (index) => this.#select(index),
            resize: (index, duration) => this.#edit((now, beats) => edits.setDuration(now, beats, index, duration)),
            move: (from, to) => this.#move(from, to),
        });
        // Of the beat that is selected now: a click on another one both ends the typing and selects that.
        const checked = (/** @type {(now: string, beats: any[], index: number) => string} */ change) =>
            this.#checkedEdit(change, this.#selected);
        this.inspector = new Inspector({
            prompt: (prompt) => checked((now, beats, index) => edits.setPrompt(now, beats, index, prompt)),
            duration: (duration) => checked((now, beats, index) => edits.setDuration(now, beats, index, duration)),
            transition: (kind) => checked((now, beats, index) => edits.setTransition(now, beats, index, kind)),
            fields: (name, values) => checked((now, beats, index) => edits.setFields(now, beats, index, name, values)),
        });
        this.plan = new PlanView({ select: (beat) => this.#select(beat, true), take: (way) => this.#take(way) });
        this.progress = new ProgressView(api, node, (segment, segments) => this.track.running(segment, segments));
        this.#build();
        this.#listen();
    }

    /** What the keyboard does, by name. */
    #actions = {
        undo: () => this.#step("undo"),
        redo: () => this.#step("redo"),
        lengthen: (/** @type {number} */ frames) => this.#lengthen(frames),
        move: (/** @type {number} */ way) => this.#move(this.#selected, this.#selected + way),
        select: (/** @type {number} */ way) => this.#select(this.#selected + way, true),
        first: () => this.#select(0, true),
        last: () => this.#select(this.#beats.length - 1, true),
        write: () => this.inspector.prompt.focus(),
        split: () => this.#split(),
        duplicate: () => this.#duplicate(),
        delete: () => this.#delete(),
        add: () => this.#add(),
        zoom: (/** @type {number} */ factor) => this.track.zoom(factor),
    };

    close() {
        this.#api.removeEventListener("graphChanged", this.refresh);
        this.progress.close();
        clearTimeout(this.#timer);
    }

    /** Requests the plan after a short delay. */
    refresh = () => {
        clearTimeout(this.#timer);
        this.#timer = window.setTimeout(() => this.client.ask(), TYPING_MILLISECONDS);
    };

    #build() {
        this.toolbar = new Toolbar({ ...this.#actions, convert: () => this.#convert() });
        this.message = new Message(this.#text);
        this.pasted = new PastedLines((joined) => {
            this.#history.keep(this.#now);
            this.#write(joined);
        });
        this.root = element(
            "div",
            { class: "kvs-timeline" },
            this.toolbar.root,
            this.message.root,
            this.pasted.root,
            this.progress.root,
            this.progress.notice,
            this.track.root,
            this.inspector.root,
            this.plan.root,
        );
    }

    #listen() {
        this.root.addEventListener("keydown", (event) => this.#key(/** @type {KeyboardEvent} */ (event)));
        useClipboard(this.root, this.track.lane, {
            ready: () => this.#answer?.form === "text",
            text: () => edits.beatText(this.#answerText, this.#beats[this.#selected]),
            insert: (lines) => this.#insert(lines),
            cut: () => this.#delete(),
        });
        afterEveryChange(this.#node, () => this.#changed());
        this.#api.addEventListener("graphChanged", this.refresh);
        afterLoading(this.#node, this.refresh);
        this.refresh();
    }

    get #now() {
        return String(this.#text.value ?? "");
    }

    get #beats() {
        return this.#answer?.beats ?? [];
    }

    /** Whether the shown plan matches the current text, and the text is in the editable form. */
    get #editable() {
        return this.#answer?.form === "text" && this.#answerText === this.#now;
    }

    #changed() {
        if (!this.#own && this.#answerText && this.#answerText !== this.#now) {
            this.#history.keep(this.#answerText);
            this.toolbar.say("");
            this.pasted.found(this.#answerText, this.#now);
        }
        this.root.setAttribute("aria-busy", "true");
        this.refresh();
    }

    /**
     * @param {any} answer
     * @param {string} text The text it is for.
     */
    #onAnswer(answer, text) {
        const readable = Boolean(answer.beats?.length && answer.latent_frames);
        if (readable) {
            this.#answer = answer;
            this.#answerText = text;
            this.#selected = Math.min(this.#selected, answer.beats.length - 1);
        }
        this.root.classList.toggle("kvs-stale", !readable);
        this.root.setAttribute("aria-busy", String(text !== this.#now));
        this.message.show(this.#now, answer.error);
        this.pasted.show(this.#now);
        this.#wrong = wrongBeats(answer);
        this.plan.show(answer, (way) => canTake(way, this.#node, this.#editable));
        this.#draw();
    }

    #draw() {
        const empty = this.#beats.length === 0;
        this.track.root.hidden = this.inspector.root.hidden = empty;
        this.toolbar.show(!empty && this.#editable, this.#history, this.#answer?.form === "json");
        if (!empty) {
            const beat = this.#beats[this.#selected];
            this.track.show(this.#answer, this.#selected, this.#editable, this.#wrong);
            this.inspector.show(beat, this.#selected, this.#answerText, this.#answer.subjects, this.#editable);
        }
    }

    /**
     * @param {number} index
     * @param {boolean} [focus]
     */
    #select(index, focus = false) {
        this.toolbar.say("");
        this.#selected = Math.max(0, Math.min(index, this.#beats.length - 1));
        this.#draw();
        if (focus) {
            this.track.focus(this.#selected);
        }
    }

    /**
     * Changes the text once the shown plan is up to date; edits run one after another.
     * @param {(text: string, beats: any[]) => string | null | Promise<string | null>} change
     * @param {number} [select] The beat to select afterwards.
     * @param {string} [message] Message for the status line.
     */
    #edit(change, select, message) {
        return (this.#edits = this.#edits.then(async () => {
            await this.client.ask();
            if (!this.#editable) {
                return;
            }
            const before = this.#now;
            const text = await change(before, this.#beats);
            if (text === null || text === before || this.#now !== before) {
                this.#draw();
                return;
            }
            const [typing, here] = [this.inspector, this].map(({ root }) => root.contains(document.activeElement));
            this.#history.keep(before);
            this.#selected = select ?? this.#selected;
            this.#write(text);
            await this.client.ask();
            this.toolbar.say(message ?? "");
            const now = document.activeElement; // The page itself, if the beat that had the focus is gone.
            if (!typing && here && (now === document.body || this.root.contains(now))) {
                this.track.focus(this.#selected);
            }
        }));
    }

    /**
     * Takes a way out that the plan offers.
     * @param {any} way
     */
    #take(way) {
        if (changesFilm(way)) {
            this.#edit((now, beats) => changedFilm(way, now, beats));
        } else {
            takeInGraph(way, this.#node, this.#app);
            this.refresh();
        }
    }

    /**
     * An edit that is made if the film can be read after it; resolves with why it cannot, else with null.
     * @param {(text: string, beats: any[], index: number) => string} change
     * @param {number} index The beat that it changes.
     * @returns {Promise<string | null>}
     */
    #checkedEdit(change, index) {
        /** @type {string | null} */
        let why = null;
        return this.#edit(async (now, beats) => {
            const text = change(now, beats, index);
            const { beats: read, error } = text === now ? { beats, error: null } : await this.client.read(text);
            why = read ? null : translated(withoutPlace(error.message));
            return read ? text : null;
        }).then(() => why);
    }

    /**
     * @param {string} text
     */
    #write(text) {
        this.#own = true;
        writeWidget(this.#app, this.#text, text);
        this.#own = false;
    }

    /**
     * @param {"undo" | "redo"} direction
     */
    #step(direction) {
        this.#edits = this.#edits.then(async () => {
            const text = this.#history[direction](this.#now);
            this.toolbar.say("");
            if (text !== null) {
                this.#write(text);
                await this.client.ask();
                this.track.focus(this.#selected);
            }
        });
    }

    /**
     * @param {number} from
     * @param {number} to
     */
    #move(from, to) {
        if (to >= 0 && to < this.#beats.length) {
            const message = filled("Beat {0} is now beat {1}", from + 1, to + 1);
            this.#edit((now, beats) => edits.moveBeat(now, beats, from, to), to, message);
        }
    }

    /**
     * @param {number} frames Latent frames to add or remove.
     */
    #lengthen(frames) {
        const index = this.#selected;
        this.#edit((now, beats) => {
            const length = beats[index].stop - beats[index].start + frames;
            return length < 1 ? null : edits.setDuration(now, beats, index, durationText(this.#answer, index, length));
        });
    }

    #split() {
        const index = this.#selected;
        this.#edit((now, beats) => {
            const half = Math.floor((beats[index].stop - beats[index].start) / 2);
            const durations = splitDurations(this.#answer, index, half);
            return durations && edits.splitBeat(now, beats, index, durations);
        });
    }

    #duplicate() {
        const index = this.#selected;
        this.#edit((now, beats) => edits.duplicateBeat(now, beats, index), index + 1, filled("Beat {0} duplicated", index + 1));
    }

    #delete() {
        const index = this.#selected;
        if (this.#beats.length > 1) {
            const message = filled("Beat {0} deleted", index + 1);
            this.#edit((now, beats) => edits.deleteBeat(now, beats, index), Math.max(0, index - 1), message);
        }
    }

    async #add() {
        const prompt = this.#answer?.named ? `${this.#answer.named} in ${NEW_BEAT}` : NEW_BEAT;
        if (this.#now.trim() === "") {
            this.#write(prompt);
            await this.client.ask();
        } else {
            await this.#insert(promptText(prompt, false));
        }
        this.inspector.prompt.focus();
        this.inspector.prompt.select();
    }

    /**
     * @param {string} lines
     */
    #insert(lines) {
        const index = this.#selected;
        const change = async (/** @type {string} */ now, /** @type {any[]} */ beats) => {
            const longer = await this.client.read(edits.appended(now, lines));
            if (longer.form !== "text" || longer.beats.length <= beats.length) {
                this.toolbar.say(longer.error ? translated(longer.error.message) : said("The pasted text contains no beat."));
                return null;
            }
            return edits.insertBeats(now, longer.beats, index, lines);
        };
        return this.#edit(change, index + 1, said("Beat added"));
    }

    #convert() {
        this.#history.keep(this.#now);
        this.#write(this.#answer.text);
    }

    /**
     * Keys outside text fields; none reaches the canvas.
     * @param {KeyboardEvent} event
     */
    #key(event) {
        keepKey(event);
        const act = this.track.lane.contains(/** @type {Node} */ (event.target)) ? actionOf(event, this.#actions) : null;
        if (act) {
            event.preventDefault();
            act();
        }
    }
}
