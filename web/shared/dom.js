/**
 * Helpers to create DOM elements. Text is always set as text, never as HTML.
 */

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element with attributes and children. An attribute whose value is a function is an event listener.
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Node | string)} children
 * @returns {any}
 */
export function element(tag, attributes = {}, ...children) {
    return filled(document.createElement(tag), attributes, children);
}

/**
 * The same for SVG elements.
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Node | string)} children
 * @returns {any}
 */
export function drawing(tag, attributes = {}, ...children) {
    return filled(document.createElementNS(SVG, tag), attributes, children);
}

/**
 * The options of a list; the value of each is its place.
 * @param {string[]} names
 */
export function options(names) {
    return names.map((name, index) => element("option", { value: index }, name));
}

/**
 * A stylesheet for the element that it is put into, and its page.
 * @param {URL} address
 */
export function styles(address) {
    return element("link", { rel: "stylesheet", href: address.href });
}

/**
 * @param {Element} made
 * @param {Record<string, any>} attributes
 * @param {(Node | string)[]} children
 */
function filled(made, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
        if (typeof value === "function") {
            made.addEventListener(name, value);
        } else if (value !== null && value !== undefined && value !== false) {
            made.setAttribute(name, value === true ? "" : String(value));
        }
    }
    made.append(...children);
    return made;
}
