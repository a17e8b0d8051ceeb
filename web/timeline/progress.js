/**
 * Progress of a run: the step, the segment and its prompt, from events that Python sends while sampling
 * (kvshare_core/host/sampling/progress.py), and what the run has to say, which stays until the next one.
 */

import { element } from "../shared/dom.js";
import { filled, translated } from "../shared/words.js";
import { idsOf } from "./graph.js";

const EVENT = "kv_share.progress";
const NOTICE = "kv_share.notice";
const ENDS = ["execution_success", "execution_error", "execution_interrupted", "executing"];

export class ProgressView {
    #api;
    #node;
    #running = /** @type {any} */ (null);
    #prompt = "";

    /**
     * @param {any} api The frontend's API object.
     * @param {any} node The LongVideoSegmenter of the film.
     * @param {(segment: number, segments: number) => void} mark Called with the running segment, -1 for none.
     */
    constructor(api, node, mark) {
        this.#api = api;
        this.#node = node;
        this.mark = mark;
        this.bar = element("progress", { max: 1, value: 0 });
        this.text = element("span");
        this.root = element("div", { class: "kvs-run", hidden: true }, this.bar, this.text);
        this.notice = element("div", { class: "kvs-notice", role: "status", hidden: true });
        api.addEventListener(EVENT, this.#onProgress);
        api.addEventListener(NOTICE, this.#onNotice);
        ENDS.forEach((kind) => api.addEventListener(kind, this.#end));
    }

    close() {
        this.#api.removeEventListener(EVENT, this.#onProgress);
        this.#api.removeEventListener(NOTICE, this.#onNotice);
        ENDS.forEach((kind) => this.#api.removeEventListener(kind, this.#end));
    }

    #onProgress = (/** @type {CustomEvent} */ { detail }) => {
        if (!this.#concerns(detail)) {
            return;
        }
        this.#running = detail;
        this.root.hidden = false;
        this.bar.value = detail.part;
        const numbers = [detail.step + 1, detail.steps, detail.segment + 1, detail.segments];
        const where = filled("Step {0} of {1}, segment {2} of {3}", ...numbers);
        this.text.textContent = `${where}: ${detail.prompt}`;
        this.text.title = detail.prompt;
        this.bar.setAttribute("aria-label", where);
        this.mark(detail.segment, detail.segments);
    };

    #onNotice = (/** @type {CustomEvent} */ { detail }) => {
        if (this.#concerns(detail)) {
            this.notice.textContent = [this.notice.textContent, translated(detail.text)].filter(Boolean).join("\n");
            this.notice.hidden = false;
        }
    };

    /** Whether an event is of a run of this film; the first one of a run takes away what an earlier run said. */
    #concerns(/** @type {any} */ detail) {
        if (!idsOf(this.#node).some((id) => detail.above.includes(id))) {
            return false;
        }
        if (detail.prompt_id !== this.#prompt) {
            this.#prompt = detail.prompt_id;
            this.notice.textContent = "";
            this.notice.hidden = true;
        }
        return true;
    }

    #end = (/** @type {CustomEvent} */ { type, detail }) => {
        const continues = type === "executing" && (detail?.node ?? detail) === this.#running?.node;
        if (this.#running && !continues) {
            this.#running = null;
            this.root.hidden = true;
            this.mark(-1, 0);
        }
    };
}
