/**
 * How words are written in the text of a film, so that Python reads them as they are meant: what docs/timeline.md calls
 * characters that mean something.
 */

const SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const OUTER_SPACE = new RegExp(`^[${SPACE}]+|[${SPACE}]+$`, "g");
const LAST_SPACE = new RegExp(`[${SPACE}]+$`);
const FIRST_BRACE = new RegExp(`^[${SPACE}]*(?=\\{)`);
const FROM = new RegExp(`(^|[${SPACE}])from([${SPACE}]|$)`, "i");
const NAMES = ["prompt", "negative", "subject", "common", "loop", "source", "strength", "lora", "seed"];

/**
 * The text without the spaces around it that Python takes for such.
 * @param {string} text
 */
export function stripped(text) {
    return text.replace(OUTER_SPACE, "");
}

/**
 * The text without the spaces at its end.
 * @param {string} text
 */
export function strippedEnd(text) {
    return text.replace(LAST_SPACE, "");
}

/**
 * How a prompt is written; bracketed: whether a duration stands before it.
 * @param {string} prompt
 * @param {boolean} bracketed
 */
export function promptText(prompt, bracketed) {
    const text = escaped(stripped(prompt.replace(/\r\n?/g, "\n")));
    return bracketed ? text : protectedStart(text);
}

/**
 * How a text is written where `|` and backslashes mean something.
 * @param {string} text
 */
function escaped(text) {
    return text.replace(/\||\\(?=[|#[{:\\n]|\n)/g, "\\$&").replace(/\n/g, "\\n");
}

/**
 * A prompt that begins as no duration, comment, JSON or setting does.
 * @param {string} text
 */
export function protectedStart(text) {
    if ("#[{".includes(text.charAt(0)) && text !== "") {
        return `\\${text}`;
    }
    const name = stripped(text.split(":", 1)[0]).toLowerCase();
    return text.includes(":") && NAMES.includes(name) ? text.replace(":", "\\:") : text;
}

/**
 * What names a subject, written so that its last words are not taken for where it comes from.
 * @param {string} named
 */
export function withoutOrigin(named) {
    const equals = named.indexOf("=") + 1;
    const [name, words] = [named.slice(0, equals), stripped(named.slice(equals))];
    const quoted = words.length > 1 && words.startsWith('"') && words.endsWith('"');
    return FROM.test(words) && !quoted ? `${name}${name && " "}"${words}"` : named;
}

/**
 * A film whose first line has come to begin as JSON does.
 * @param {string} text
 */
export function withoutBrace(text) {
    return text.replace(FIRST_BRACE, "$&\\");
}

/**
 * Whether a line is a comment or empty.
 * @param {string} line
 */
export function isRemark(line) {
    const content = stripped(line);
    return content === "" || content.startsWith("#");
}
