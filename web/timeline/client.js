/**
 * Requests the plan of a film from Python. One request at a time; while one is pending, only the newest waits.
 */

import { said } from "../shared/words.js";
import { graphAround } from "./graph.js";

const ROUTE = "/kv_share/plan";
const NO_ANSWER = "The server does not respond, so no plan is shown. The text is kept.";

export class PlanClient {
    #api;
    #node;
    #asked = "";
    #answered = /** @type {any} */ (null);
    #busy = false;
    #again = false;
    /** @type {(() => void)[]} */
    #waiting = [];

    /**
     * @param {any} api The frontend's API object.
     * @param {any} node
     * @param {(answer: any, text: string) => void} onAnswer Gets each answer, with the text it is for.
     */
    constructor(api, node, onAnswer) {
        this.#api = api;
        this.#node = node;
        this.onAnswer = onAnswer;
    }

    /** Requests the plan, unless nothing has changed since the last answer. Resolves with the newest answer received. */
    async ask() {
        if (this.#busy) {
            this.#again = true;
            return new Promise((resolve) => this.#waiting.push(() => resolve(undefined)));
        }
        this.#busy = true;
        try {
            do {
                this.#again = false;
                await this.#askOnce();
            } while (this.#again);
        } finally {
            this.#busy = false;
            this.#waiting.splice(0).forEach((settle) => settle());
        }
    }

    /**
     * The answer for another text, without notifying anyone else.
     * @param {string} text
     */
    async read(text) {
        const graph = graphAround(this.#node);
        graph[this.#node.id].inputs.prompts = text;
        return this.#answer(JSON.stringify({ node: String(this.#node.id), graph }));
    }

    async #askOnce() {
        if (!this.#node.graph) {
            return;
        }
        const graph = graphAround(this.#node);
        const body = JSON.stringify({ node: String(this.#node.id), graph });
        if (body !== this.#asked) {
            this.#asked = body;
            this.#answered = await this.#answer(body);
        }
        const text = graph[this.#node.id].inputs.prompts;
        this.onAnswer(this.#answered, typeof text === "string" ? text : "");
    }

    /**
     * @param {string} body
     */
    async #answer(body) {
        try {
            const options = { method: "POST", headers: { "Content-Type": "application/json" }, body };
            const response = await this.#api.fetchApi(ROUTE, options);
            return await response.json();
        } catch {
            this.#asked = "";
            return { error: { message: said(NO_ANSWER), at: null } };
        }
    }
}
