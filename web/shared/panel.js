/**
 * DOM panels inside a node, for both the classic canvas and Vue nodes.
 */

import { styles } from "./dom.js";

const OWN_EVENTS = ["pointerdown", "pointermove", "pointerup", "mousedown", "dblclick", "contextmenu", "keyup"];

/**
 * Adds an element to a node. It is not saved with the workflow, and its events do not reach the canvas.
 * @param {any} node
 * @param {string} name
 * @param {any} root
 * @param {{height: number, width: number, look: URL, close: () => void, below?: string}} panel Minimum size, the
 * stylesheet, what to call when the node is removed, and the widget to stand below instead of below all.
 */
export function addPanel(node, name, root, { height, width, look, close, below }) {
    // In the panel, not in the page's head, which belongs to the frontend and to every other pack too.
    root.prepend(styles(new URL("./panel.css", import.meta.url)), styles(look));
    root.classList.add("kvs-panel");
    for (const kind of OWN_EVENTS) {
        root.addEventListener(kind, (/** @type {Event} */ event) => event.stopPropagation());
    }
    const options = { serialize: false, hideOnZoom: true, getMinHeight: () => height, margin: 6 };
    const widget = node.addDOMWidget(name, name, root, options);
    widget.serialize = false;
    if (below) {
        placeBelow(node, widget, below);
    }
    node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], node.computeSize()[1])]);
    const removed = node.onRemoved;
    node.onRemoved = function () {
        close();
        return removed?.apply(this, arguments);
    };
}

/**
 * Moves a widget that is not saved to below another one. The frontend saves values by place and leaves a hole for such a
 * widget, but reads them without one: the hole is taken out.
 * @param {any} node
 * @param {any} widget
 * @param {string} name
 */
function placeBelow(node, widget, name) {
    const { widgets } = node;
    widgets.splice(widgets.indexOf(widget), 1);
    widgets.splice(widgets.findIndex((/** @type {any} */ other) => other.name === name) + 1, 0, widget);
    const saving = node.onSerialize;
    node.onSerialize = function (/** @type {any} */ saved) {
        const result = saving?.apply(this, arguments);
        const place = this.widgets?.findIndex((/** @type {any} */ other) => other.name === widget.name) ?? -1;
        if (place >= 0 && saved.widgets_values && !(place in saved.widgets_values)) {
            saved.widgets_values.splice(place, 1);
        }
        return result;
    };
}

/**
 * Keeps a key from the canvas, but for those with which the frontend runs and saves the workflow.
 * @param {KeyboardEvent} event
 */
export function keepKey(event) {
    const apart = (event.ctrlKey || event.metaKey) && ["Enter", "s"].includes(event.key);
    if (!apart) {
        event.stopPropagation();
    }
}
