/**
 * Elements of the page. Text is only ever set as text.
 */

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element with attributes and children; a function is listened with, by the name of its event.
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Node | string)} children
 * @returns {any}
 */
export function element(tag, attributes = {}, ...children) {
    return filled(document.createElement(tag), attributes, children);
}

/**
 * The same of a drawing.
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Node | string)} children
 * @returns {any}
 */
export function drawing(tag, attributes = {}, ...children) {
    return filled(document.createElementNS(SVG, tag), attributes, children);
}

/**
 * Adds a stylesheet to the page, once.
 * @param {URL} address
 */
export function addStyles(address) {
    if (!document.querySelector(`link[href="${address.href}"]`)) {
        document.head.append(element("link", { rel: "stylesheet", href: address.href }));
    }
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
