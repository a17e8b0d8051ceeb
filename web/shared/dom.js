/**
 * Helpers to create DOM elements. Text is always set as text, never as HTML; the pack's own words are in the user's
 * language.
 */

import { said } from "./words.js";

const SPOKEN = ["title", "aria-label", "placeholder"];
const SVG = "http://www.w3.org/2000/svg";

/**
 * An element with attributes and children. An attribute whose value is a function is an event listener.
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Node | string)} children
 * @returns {any}
 */
export function element(tag, attributes = {}, ...children) {
    const spoken = SPOKEN.filter((name) => typeof attributes[name] === "string");
    const told = { ...attributes, ...Object.fromEntries(spoken.map((name) => [name, said(attributes[name])])) };
    return filled(
        document.createElement(tag),
        told,
        children.map((child) => (typeof child === "string" ? said(child) : child)),
    );
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
    // Names of subjects are the user's words, which are never translated.
    return names.map((name, index) => filled(document.createElement("option"), { value: index }, [name]));
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
