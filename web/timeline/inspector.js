/**
 * Fields of the selected beat: prompt, duration, transition and subjects. Each is written to the text on blur.
 */

import { element } from "../shared/dom.js";

const KINDS = ["cut", "blend", "segments", "route"];
const HINTS = { cut: "gap, such as 5f", blend: "8f", segments: "2", route: "0.5s" };
const USUAL_SEGMENTS = "1";

/**
 * @typedef {object} InspectorListener
 * @property {(prompt: string) => void} prompt
 * @property {(duration: string | null) => void} duration
 * @property {(transition: string | null) => void} transition
 * @property {(subjects: string[]) => void} subjects
 */

export class Inspector {
    /** @type {any} */
    #shown = null;

    /**
     * @param {InspectorListener} listener
     */
    constructor(listener) {
        this.listener = listener;
        this.prompt = element("textarea", { rows: 2, spellcheck: false, change: () => this.#applyPrompt() });
        this.duration = element("input", { placeholder: "one segment", size: 8, change: () => this.#applyDuration() });
        this.kind = element(
            "select",
            { change: () => this.#applyKind() },
            element("option", { value: "" }, "default"),
            ...KINDS.map((kind) => element("option", { value: kind }, kind)),
        );
        this.length = element("input", { size: 7, change: () => this.#applyTransition() });
        this.subjects = element("input", { change: () => this.#applySubjects() });
        this.title = element("span", { class: "kvs-title" });
        this.root = element(
            "div",
            { class: "kvs-inspector kvs-fields", keydown: (/** @type {KeyboardEvent} */ event) => this.#key(event) },
            element("label", { class: "kvs-wide" }, this.title, this.prompt),
            element("label", {}, "Duration", this.duration),
            element("label", {}, "Transition", element("span", { class: "kvs-pair" }, this.kind, this.length)),
            element("label", { class: "kvs-grow" }, "Subject words", this.subjects),
        );
        this.duration.setAttribute("title", "3s, 24f (frames) or 5l (latent frames). Empty: one segment");
        this.subjects.setAttribute("title", "Words of the prompt that name the subject. Separate several subjects with |, or write none");
    }

    /**
     * @param {any} beat
     * @param {number} index
     * @param {string} text The text that contains the beat.
     * @param {string[]} usual Subjects of beats that set none.
     * @param {boolean} editable
     */
    show(beat, index, text, usual, editable) {
        const subjects = (beat.fields ?? []).filter((/** @type {any} */ field) => field.name === "subject");
        const written = subjects.map((/** @type {any} */ field) => text.slice(...field.value)).join(" | ");
        const [kind, ...more] = (beat.transition ?? "").split(" ");
        this.#shown = {
            prompt: beat.prompt,
            duration: beat.duration?.text ?? "",
            kind,
            length: more.join(" ").replace(/^gap /, ""),
            subjects: beat.fields ? written : (beat.subjects ?? []).join(" | "),
        };
        this.title.textContent = `Beat ${index + 1}`;
        this.#fill(this.prompt, this.#shown.prompt);
        this.#fill(this.duration, this.#shown.duration);
        this.#fill(this.kind, kind);
        this.#fill(this.length, this.#shown.length);
        this.#fill(this.subjects, this.#shown.subjects);
        this.length.hidden = kind === "";
        this.length.placeholder = /** @type {any} */ (HINTS)[kind] ?? "";
        this.subjects.placeholder = usual.length > 0 ? usual.join(", ") : "from Mask-Guided KV Share";
        for (const field of [this.prompt, this.duration, this.kind, this.length, this.subjects]) {
            field.disabled = !editable;
        }
        this.kind.disabled ||= index === 0;
    }

    /**
     * Does not overwrite a field while the user is typing in it.
     * @param {any} field
     * @param {string} value
     */
    #fill(field, value) {
        if (document.activeElement !== field || field.dataset.shown !== value) {
            field.value = value;
            field.dataset.shown = value;
        }
    }

    #applyPrompt() {
        const prompt = this.prompt.value.trim();
        if (prompt === "") {
            this.prompt.value = this.#shown.prompt;
        } else if (prompt !== this.#shown.prompt) {
            this.listener.prompt(prompt);
        }
    }

    #applyDuration() {
        const duration = this.duration.value.replace(/[[\]]/g, "").trim();
        if (duration !== this.#shown.duration) {
            this.listener.duration(/^[\d.]+$/.test(duration) ? `${duration}s` : duration || null);
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
        this.listener.transition(kind === "" ? null : `${kind} ${words}`.trim());
    }

    #applySubjects() {
        const written = this.subjects.value.trim();
        if (written !== this.#shown.subjects) {
            this.listener.subjects(written.match(/(?:\\[|#[{:\\n]|[^|])+/g)?.map((/** @type {string} */ one) => one.trim()) ?? []);
        }
    }

    /**
     * Keys in text fields do not reach the editor; Enter applies the typed text and Escape discards it.
     * @param {KeyboardEvent} event
     */
    #key(event) {
        const field = /** @type {any} */ (event.target);
        if (event.key === "Escape") {
            field.value = field.dataset.shown;
            field.closest(".kvs-timeline").querySelector(".kvs-chosen")?.focus();
        } else if (event.key === "Enter" && !event.shiftKey) {
            event.preventDefault();
            field.blur();
        }
        event.stopPropagation();
    }
}
