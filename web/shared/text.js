/**
 * Numbers as people read them.
 */

/**
 * For people: minutes only where there are some.
 * @param {number} seconds
 */
export function clock(seconds) {
    const tenths = Math.round(seconds * 10);
    const [minutes, rest] = [Math.floor(tenths / 600), (tenths % 600) / 10];
    return minutes > 0 ? `${minutes}:${String(Math.floor(rest)).padStart(2, "0")}` : `${rounded(rest)} s`;
}

/**
 * Without zeros at its end.
 * @param {number} value
 * @param {number} [digits]
 */
export function rounded(value, digits = 2) {
    return String(Number(value.toFixed(digits)));
}

/**
 * A part of one in percent, the smaller it is the more exactly.
 * @param {number} part
 */
export function percent(part) {
    const hundredths = 100 * part;
    return hundredths > 0 && hundredths < 0.01 ? "< 0.01 %" : `${rounded(hundredths, hundredths < 1 ? 2 : 1)} %`;
}
