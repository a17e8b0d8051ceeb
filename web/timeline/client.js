/**
 * Asks Python what a film is. One question at a time; while one is on its way, only the newest waits.
 */

import { graphAround } from "./graph.js";

const ROUTE = "/kv_share/plan";

export class PlanClient {
    #api;
    #node;
    #asked = "";
    #told = /** @type {any} */ (null);
    #busy = false;
    #again = false;
    /** @type {(() => void)[]} */
    #waiting = [];

    /**
     * @param {any} api The frontend's own.
     * @param {any} node
     * @param {(answer: any, text: string) => void} hear Gets each answer, with the text that it is about.
     */
    constructor(api, node, hear) {
        this.#api = api;
        this.#node = node;
        this.hear = hear;
    }

    /** Asks, unless nothing has changed since the last answer. Settles when the newest is there. */
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
     * What the film would be with another text; nobody else hears of it.
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
            this.#told = await this.#answer(body);
        }
        const text = graph[this.#node.id].inputs.prompts;
        this.hear(this.#told, typeof text === "string" ? text : "");
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
            return { error: { message: "The server does not answer. The text is all that counts.", at: null } };
        }
    }
}
