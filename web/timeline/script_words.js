/**
 * Escaping of words in the text of a film, so that Python parses them as intended: see "Special characters" in
 * docs/timeline.md.
 */

const SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000\\xad\\u200b-\\u200f\\u2060\\ufeff";
const OUTER_SPACE = new RegExp(`^[${SPACE}]+|[${SPACE}]+$`, "g");
const LAST_SPACE = new RegExp(`[${SPACE}]+$`);
const FIRST_BRACE = new RegExp(`^[${SPACE}]*(?=\\{)`);
const FROM = new RegExp(`(^|[${SPACE}])from([${SPACE}]|$)`, "i");
const FIELDS = "subject|source|strength|negative|lora|seed|weight";
const SHOTS = "\\u955c\\u5934|\\u5834\\u9762|\\u573a\\u666f|\\u5206\\u955c|\\u30b7\\u30fc\\u30f3|\\u30ab\\u30c3\\u30c8";
const LABEL = `(?:(?:scene|shot|clip|beat|segment)[ _]?#?[0-9]{1,4}|(?:${SHOTS}) ?[0-9]{1,4})`;
const ONLY_LABEL = new RegExp(`^\\\\?${LABEL}$`, "i");
const FOREIGN_NAME = new RegExp(
    "(?:(?<![a-z0-9_])(?:(?:negative|positive)[ _]prompt|steps: ?[0-9]{1,9}, ?sampler)" +
        '|"(?:version|beats|prompt)"' +
        `|\\uff5c[ \\t]?(?:${FIELDS})` +
        `|^(?:prompt|common|loop|${FIELDS})(?=[ \\t]?\\uff1a)` +
        `|^(?:\\[[^\\]\\n]{0,60}\\][ \\t]?)?${LABEL})` +
        "[ \\t]?(?=[:\\uff1a])",
    "gi",
);
const NUMBERED = /^(?:[0-9]{1,4}[ \t]?[.):\u3001\uff0e\uff09\uff1a](?![0-9])|\\[0-9])/;
const NAMES = ["prompt", "negative", "subject", "common", "loop", "source", "strength", "lora", "seed", "weight"];

/**
 * The text without the surrounding characters that Python's reader removes.
 * @param {string} text
 */
export function stripped(text) {
    return text.replace(OUTER_SPACE, "");
}

/**
 * The text without trailing spaces.
 * @param {string} text
 */
export function strippedEnd(text) {
    return text.replace(LAST_SPACE, "");
}

/**
 * A prompt with its special characters escaped; bracketed: whether a duration precedes it.
 * @param {string} prompt
 * @param {boolean} bracketed
 */
export function promptText(prompt, bracketed) {
    const words = escaped(stripped(prompt.replace(/\r\n?/g, "\n")));
    const text = NUMBERED.test(words) || ONLY_LABEL.test(words) ? `\\${words}` : words;
    return bracketed ? text : protectedStart(text);
}

/**
 * The text with `|` and backslashes escaped.
 * @param {string} text
 */
function escaped(text) {
    const plain = text.replace(/\||\\(?=[|#[{:`\\n\uff1a]|\n)/g, "\\$&").replace(/\n/g, "\\n");
    return plain.replace(FOREIGN_NAME, "$&\\");
}

/**
 * A prompt, escaped so that it does not begin like a duration, comment, JSON or setting.
 * @param {string} text
 */
export function protectedStart(text) {
    if (("#[{".includes(text.charAt(0)) && text !== "") || text.startsWith("```")) {
        return `\\${text}`;
    }
    const name = stripped(text.split(":", 1)[0]).toLowerCase();
    return text.includes(":") && NAMES.includes(name) ? text.replace(":", "\\:") : text;
}

/**
 * The words of a subject, quoted so that its last words are not parsed as its source.
 * @param {string} named
 */
export function withoutOrigin(named) {
    const equals = named.indexOf("=") + 1;
    const [name, words] = [named.slice(0, equals), stripped(named.slice(equals))];
    const quoted = words.length > 1 && words.startsWith('"') && words.endsWith('"');
    return FROM.test(words) && !quoted ? `${name}${name && " "}"${words}"` : named;
}

/**
 * The film, escaped if its first line now begins like JSON.
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
