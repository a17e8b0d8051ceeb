/**
 * Fields of the selected beat. Each is written to the text on blur; what cannot be read stays in its field and is marked.
 */

import { element } from "../shared/dom.js";
import { filled, said } from "../shared/words.js";

const KINDS = ["cut", "blend", "segments", "route"];
const MEANINGS = /** @type {Record<string, string>} */ ({
    cut: "The next beat begins at once. gap 5f moves the beats before it further away in time",
    blend: "The beats fade into each other, over 8f for example. Empty: over the usual overlap of segments",
    segments: "So many more segments turn one prompt into the next, which makes the film longer",
    route: "The text changes from one prompt to the next within the picture, over 0.5s for example",
});
const HINTS = { cut: "gap, such as 5f", blend: "8f", segments: "2", route: "0.5s" };
const USUAL_SEGMENTS = "1";
const USUAL = "As Long Video Segmenter is set: num_transition_blocks, else a blend over overlap_size";
const OF_SHARER = "from Mask-Guided KV Share";
const DURATION = "3s, 24f (frames) or 5l (latent frames). Empty: one segment";
const SUBJECTS = "Words of the prompt that name the subject. Separate several subjects with |, or write none";
const MORE = /** @type {const} */ ([
    ["strength", "Strength", "How much this beat attends to its source: 0 to 2. Empty: as in KV Sharing Config"],
    ["source", "Source", "Whose subject this beat shows: first, previous, none, or beat 2. Empty: as in KV Sharing Config"],
    ["negative", "Negative prompt", "What this beat must not show. Empty: the negative prompt of the film"],
    ["lora", "LoRA", "A file and its strength: style.safetensors 0.8. Separate several with |"],
    ["weight", "Word weights", "Words of the prompt and how much they count: fox 1.5. 0 leaves them out. Separate several with |"],
    ["seed", "Seed", "Other noise for this beat: +1, +2 and so on. Empty: that of the film"],
]);

/**
 * @typedef {object} InspectorListener
 * Each resolves with why the text cannot be read with the change, which is then not made; null when it was made.
 * @property {(prompt: string) => Promise<string | null>} prompt
 * @property {(duration: string | null) => Promise<string | null>} duration
 * @property {(transition: string | null) => Promise<string | null>} transition
 * @property {(name: string, values: string[]) => Promise<string | null>} fields
 */

export class Inspector {
    /** @type {any} */
    #shown = null;
    #shownIndex = -1;
    /** @type {any} */
    #pending = null;
    /** @type {string | null} */
    #accepted = null;

    /**
     * @param {InspectorListener} listener
     */
    constructor(listener) {
        this.listener = listener;
        this.prompt = element("textarea", { rows: 2, spellcheck: false, change: () => this.#applyPrompt() });
        this.duration = element("input", { title: DURATION, placeholder: "one segment", size: 8, change: () => this.#applyDuration() });
        this.kind = element(
            "select",
            { change: () => this.#applyKind() },
            element("option", { value: "", title: USUAL }, "default"),
            ...KINDS.map((kind) => element("option", { value: kind, title: MEANINGS[kind] }, kind)),
        );
        this.length = element("input", { size: 7, change: () => this.#applyTransition() });
        this.subjects = element("input", { title: SUBJECTS, change: () => this.#applySubjects() });
        this.title = element("span", { class: "kvs-title" });
        this.more = MORE.map(([name, , title]) =>
            element("input", { title, "data-name": name, change: (/** @type {any} */ event) => this.#applyMore(event.target) }),
        );
        this.bad = element("div", { class: "kvs-bad", role: "alert", hidden: true });
        this.rest = element(
            "details",
            { class: "kvs-wide" },
            element("summary", {}, "More of this beat"),
            element(
                "div",
                { class: "kvs-fields" },
                ...MORE.map(([, label], index) => element("label", { class: "kvs-grow" }, label, this.more[index])),
            ),
        );
        this.root = element(
            "div",
            { class: "kvs-inspector kvs-fields", keydown: (/** @type {KeyboardEvent} */ event) => this.#key(event) },
            element("label", { class: "kvs-wide" }, this.title, this.prompt),
            element("label", {}, "Duration", this.duration),
            element("label", {}, "Transition", element("span", { class: "kvs-pair" }, this.kind, this.length)),
            element("label", { class: "kvs-grow" }, "Subject words", this.subjects),
            this.bad,
            this.rest,
        );
    }

    /**
     * @param {any} beat
     * @param {number} index
     * @param {string} text The text that contains the beat.
     * @param {string[]} usual Subjects of beats that set none.
     * @param {boolean} editable
     */
    show(beat, index, text, usual, editable) {
        const written = (/** @type {string} */ name) =>
            (beat.fields ?? [])
                .filter((/** @type {any} */ field) => field.name === name)
                .map((/** @type {any} */ field) => text.slice(...field.value).trim())
                .join(" | ");
        const [kind, ...more] = (beat.transition ?? "").split(" ");
        this.#shown = {
            prompt: beat.prompt,
            duration: beat.duration?.text ?? "",
            kind,
            length: more.join(" ").replace(/^gap /, ""),
            subjects: beat.fields ? written("subject") : (beat.subjects ?? []).join(" | "),
        };
        if (this.#shownIndex !== index) {
            this.#reject(null, null);
            this.#shownIndex = index;
        }
        this.title.textContent = filled("Beat {0}", index + 1);
        this.#fill(this.prompt, this.#shown.prompt);
        this.#fill(this.duration, this.#shown.duration);
        this.#fill(this.kind, kind);
        this.#fill(this.length, this.#shown.length);
        this.#fill(this.subjects, this.#shown.subjects);
        this.more.forEach((field) => this.#fill(field, written(field.dataset.name)));
        this.length.hidden = kind === "";
        this.kind.title = this.length.title = said(MEANINGS[kind] ?? USUAL);
        this.length.placeholder = /** @type {any} */ (HINTS)[kind] ?? "";
        this.subjects.placeholder = usual.length > 0 ? usual.join(", ") : said(OF_SHARER);
        for (const field of [this.prompt, this.duration, this.kind, this.length, this.subjects, ...this.more]) {
            field.disabled = !editable;
        }
        this.kind.disabled ||= index === 0;
    }

    /**
     * Does not overwrite a field while the user is typing in it, or while what was typed is still being read.
     * @param {any} field
     * @param {string} value
     */
    #fill(field, value) {
        if (field === this.#pending) {
            this.#accepted = value;
            return;
        }
        const bad = field.getAttribute("aria-invalid") === "true";
        if ((document.activeElement !== field && !bad) || field.dataset.shown !== value) {
            field.value = value;
            field.dataset.shown = value;
        }
    }

    #applyPrompt() {
        const prompt = this.prompt.value.trim();
        if (prompt === "") {
            this.prompt.value = this.#shown.prompt;
        } else if (prompt !== this.#shown.prompt) {
            this.#apply(this.prompt, this.listener.prompt(prompt));
        }
    }

    #applyDuration() {
        const duration = this.duration.value.replace(/[[\]]/g, "").trim();
        if (duration !== this.#shown.duration) {
            const value = /^[\d.]+$/.test(duration) ? `${duration}s` : duration || null;
            this.#apply(this.duration, this.listener.duration(value));
        } else {
            this.#reject(this.duration, null);
        }
    }

    #applyKind() {
        this.length.value = this.kind.value === "segments" ? USUAL_SEGMENTS : "";
        this.#applyTransition();
    }

    #applyTransition() {
        const kind = this.kind.value;
        const length = this.length.value.trim();
        const words = kind === "cut" && length ? `gap ${length}` : length;
        this.#apply(this.length, this.listener.transition(kind === "" ? null : `${kind} ${words}`.trim()));
    }

    #applySubjects() {
        const written = this.subjects.value.trim();
        if (written !== this.#shown.subjects) {
            this.#apply(this.subjects, this.listener.fields("subject", partsOf(written)));
        }
    }

    /**
     * @param {any} field One of the further fields.
     */
    #applyMore(field) {
        const written = field.value.trim();
        this.#apply(field, this.listener.fields(field.dataset.name, partsOf(written)));
    }

    /**
     * @param {any} field
     * @param {Promise<string | null>} change
     */
    async #apply(field, change) {
        const index = this.#shownIndex;
        this.#pending = field;
        this.#accepted = null;
        const why = await change;
        if (this.#pending === field) {
            this.#pending = null;
        }
        if (index === this.#shownIndex) {
            this.#reject(field, why);
        }
        if (this.#accepted !== null && (why === null || index !== this.#shownIndex)) {
            this.#fill(field, this.#accepted);
        }
    }

    /**
     * Marks the field whose text was rejected; null for none.
     * @param {any} field
     * @param {string | null} why
     */
    #reject(field, why) {
        for (const one of [this.prompt, this.duration, this.length, this.subjects, ...this.more]) {
            one.setAttribute("aria-invalid", String(one === field && why !== null));
        }
        this.bad.textContent = why ?? "";
        this.bad.hidden = why === null;
    }

    /**
     * Keys in text fields do not reach the editor; Enter applies the typed text and Escape discards it.
     * @param {KeyboardEvent} event
     */
    #key(event) {
        const field = /** @type {any} */ (event.target);
        if (event.key === "Escape") {
            field.value = field.dataset.shown;
            this.#reject(null, null);
            field.closest(".kvs-timeline").querySelector(".kvs-chosen")?.focus();
        } else if (event.key === "Enter" && !event.shiftKey) {
            event.preventDefault();
            field.blur();
        }
        event.stopPropagation();
    }
}

/**
 * The values of a field that were written with bars between them.
 * @param {string} written
 */
function partsOf(written) {
    return written.match(/(?:\\[|#[{:\\n]|[^|])+/g)?.map((/** @type {string} */ one) => one.trim()) ?? [];
}
