/**
 * The editor's and the viewer's own words in the languages of the pack, and the messages that Python sends them. English
 * is the key; what has no translation, such as a user's words, stays as it is.
 */

import * as wrongJa from "./errors_ja.js";
import * as wrongZh from "./errors_zh.js";
import * as runJa from "./notices_ja.js";
import * as runZh from "./notices_zh.js";
import * as ja from "./words_ja.js";
import * as zh from "./words_zh.js";

/**
 * @typedef {Record<string, string>} Table
 * @typedef {{WORDS: Table, ERRORS: Table, MESSAGES: Table, NOTICES: Table, BETWEEN_NAMES: string}} Language
 */

/** @type {Record<string, Language>} */
const LANGUAGES = { zh: { ...zh, ...wrongZh, ...runZh }, ja: { ...ja, ...wrongJa, ...runJa } };
const PLACES = /\\\{\d(?:\\\+|&)?\\\}/g;
const ENGLISH = { WORDS: {}, ERRORS: {}, MESSAGES: {}, NOTICES: {}, BETWEEN_NAMES: "" };

export const TRANSLATIONS = { zh: zh.WORDS, ja: ja.WORDS };

/** @type {Record<string, string>} */
let table = {};
/** @type {[RegExp, string, string][]} */
let messages = [];
let betweenNames = "";

/**
 * Says everything that is made from now on in a language of the frontend.
 * @param {string} language Such as zh or ja; English for one that is not known.
 */
export function speak(language) {
    const { WORDS, ERRORS, MESSAGES, NOTICES, BETWEEN_NAMES } = LANGUAGES[language] ?? ENGLISH;
    if (table !== WORDS) {
        table = WORDS;
        betweenNames = BETWEEN_NAMES;
        // The first that matches counts: what begins with a name or a place comes first.
        messages = [ERRORS, MESSAGES, NOTICES].flatMap(Object.entries).map(([english, text]) => [patternOf(english), english, text]);
    }
}

/**
 * Words of the editor or the viewer in the user's language.
 * @param {string} text
 * @returns {string}
 */
export function said(text) {
    return Object.hasOwn(table, text) ? table[text] : text;
}

/**
 * The same with values in the places of {0}, {1} and so on, which stay as they are.
 * @param {string} text
 * @param {...(string | number)} values
 */
export function filled(text, ...values) {
    return withValues(said(text), values.map(String));
}

/**
 * A message from Python in the user's language.
 * @param {string} message
 * @returns {string}
 */
export function translated(message) {
    for (const [pattern, english, text] of messages) {
        const found = pattern.exec(message);
        if (found) {
            return withValues(text, found.slice(1).map((value, place) => insertion(english, place, value)));
        }
    }
    return message;
}

/**
 * A value of a message as it is put into the translation: itself, translated, or names in a list.
 * @param {string} english The message, with places.
 * @param {number} place
 * @param {string} value
 */
function insertion(english, place, value) {
    const names = english.includes(`{${place}&}`);
    const text = names || english.includes(`{${place}+}`) ? translated(value) : value;
    return names ? text.replaceAll(/ and | or /g, betweenNames) : text;
}

/**
 * @param {string} text
 * @param {string[]} values
 */
function withValues(text, values) {
    return text.replace(/\{(\d)\}/g, (whole, place) => values[Number(place)] ?? whole);
}

/**
 * What matches a message in English and finds its values.
 * @param {string} english
 */
function patternOf(english) {
    const escaped = english.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
    return new RegExp(`^${escaped.replace(PLACES, "(.+?)")}$`, "s");
}
