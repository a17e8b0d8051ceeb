/**
 * The node's own inputs for what its outputs show. The viewer has the same controls, so a change of one is one of both.
 */

import { afterEveryChange, writeWidget } from "../shared/widgets.js";

const [SUBJECT, POINT] = ["subject", "look_at"];
const SHARER = "MaskGuidedKVShare";
const RECORD = "record";

export class Shown {
    #node;
    #app;
    #own = false;

    /**
     * @param {any} node
     * @param {any} app The frontend's app object.
     */
    constructor(node, app) {
        this.#node = node;
        this.#app = app;
    }

    /**
     * Calls a function with the opacity when its user changes it on the node.
     * @param {(opacity: number) => void} act
     */
    follow(act) {
        afterEveryChange(this.#node, () => this.#own || act(Number(this.#widget("opacity")?.value ?? 0)));
    }

    /**
     * @param {number} opacity
     */
    setOpacity(opacity) {
        this.#set("opacity", opacity);
    }

    /**
     * @param {any} map What the viewer shows: a subject, all of them, or a point's attention.
     */
    setMap({ kind, name }) {
        this.#set("show", kind === "point" ? POINT : SUBJECT);
        if (kind !== "point") {
            this.#set("subject", kind === "subject" ? name : "");
        }
    }

    /**
     * Sets the point whose attention the next run records; returns whether there is a widget for it.
     * @param {string} point
     */
    setPoint(point) {
        const widget = pointWidget(this.#node);
        if (widget) {
            writeWidget(this.#app, widget, point);
        }
        return Boolean(widget);
    }

    /**
     * @param {string} name
     * @param {any} value
     */
    #set(name, value) {
        const widget = this.#widget(name);
        if (widget && widget.value !== value) {
            this.#own = true;
            writeWidget(this.#app, widget, value);
            this.#own = false;
        }
    }

    /**
     * @param {string} name
     */
    #widget(name) {
        return this.#node.widgets?.find((/** @type {any} */ widget) => widget.name === name);
    }
}

/**
 * The widget of the point whose attention is recorded; undefined if the record does not come from MaskGuidedKVShare.
 * @param {any} node
 */
function pointWidget(node) {
    const input = node.inputs?.find((/** @type {any} */ one) => one.name === RECORD);
    const link = input?.link === null ? null : node.graph?.getLink?.(input?.link);
    const source = link && node.graph.getNodeById(link.origin_id);
    const known = source?.comfyClass === SHARER;
    return known ? source.widgets?.find((/** @type {any} */ widget) => widget.name === POINT) : undefined;
}
