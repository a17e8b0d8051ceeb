/**
 * Elements of the page inside a node, in both ways in which the frontend draws nodes.
 */

import { addStyles } from "./dom.js";

const MINE = ["pointerdown", "pointermove", "pointerup", "mousedown", "dblclick", "contextmenu", "keyup"];

/**
 * Puts an element into a node. Nothing of it is saved, and what happens in it is not for the graph around it.
 * @param {any} node
 * @param {string} name
 * @param {any} root
 * @param {{height: number, width: number, close: () => void}} panel The least that it takes, and what to do when the
 * node is removed.
 */
export function addPanel(node, name, root, { height, width, close }) {
    addStyles(new URL("./panel.css", import.meta.url));
    root.classList.add("kvs-panel");
    for (const kind of MINE) {
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
