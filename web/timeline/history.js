/**
 * Undo and redo history of the text.
 */

const MOST = 200;

export class History {
    /** @type {string[]} */
    #past = [];
    /** @type {string[]} */
    #future = [];

    /**
     * Records a text that is about to change.
     * @param {string} text
     */
    keep(text) {
        this.#past.push(text);
        this.#past.splice(0, this.#past.length - MOST);
        this.#future = [];
    }

    /**
     * The previous text, or null; `now` is recorded for `redo`.
     * @param {string} now
     */
    undo(now) {
        return this.#step(this.#past, this.#future, now);
    }

    /**
     * The last undone text, or null.
     * @param {string} now
     */
    redo(now) {
        return this.#step(this.#future, this.#past, now);
    }

    get canUndo() {
        return this.#past.length > 0;
    }

    get canRedo() {
        return this.#future.length > 0;
    }

    /**
     * @param {string[]} from
     * @param {string[]} to
     * @param {string} now
     */
    #step(from, to, now) {
        const text = from.pop();
        if (text === undefined) {
            return null;
        }
        to.push(now);
        return text;
    }
}
