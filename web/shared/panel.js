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
 * @param {{height: number, width: number, look: URL, close: () => void}} panel Minimum size, the stylesheet, and what to
 * call when the node is removed.
 */
export function addPanel(node, name, root, { height, width, look, close }) {
    // In the panel, not in the page's head, which belongs to the frontend and to every other pack too.
    root.prepend(styles(new URL("./panel.css", import.meta.url)), styles(look));
    root.classList.add("kvs-panel");
    for (const kind of OWN_EVENTS) {
        root.addEventListener(kind, (/** @type {Event} */ event) => event.stopPropagation());
    }
    const options = { serialize: false, hideOnZoom: true, getMinHeight: () => height, margin: 6 };
    const widget = node.addDOMWidget(name, name, root, options);
    widget.serialize = false;
    node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], node.computeSize()[1])]);
    const removed = node.onRemoved;
    node.onRemoved = function () {
        close();
        return removed?.apply(this, arguments);
    };
}
