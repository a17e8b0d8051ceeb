/**
 * Number formatting.
 */

/**
 * A time, with minutes only if there are any.
 * @param {number} seconds
 */
export function clock(seconds) {
    const tenths = Math.round(seconds * 10);
    const [minutes, rest] = [Math.floor(tenths / 600), (tenths % 600) / 10];
    return minutes > 0 ? `${minutes}:${String(Math.floor(rest)).padStart(2, "0")}` : `${rounded(rest)} s`;
}

/**
 * Without trailing zeros.
 * @param {number} value
 * @param {number} [digits]
 */
export function rounded(value, digits = 2) {
    return String(Number(value.toFixed(digits)));
}

/**
 * A fraction in percent; smaller values get more digits.
 * @param {number} part
 */
export function percent(part) {
    const hundredths = 100 * part;
    return hundredths > 0 && hundredths < 0.01 ? "< 0.01 %" : `${rounded(hundredths, hundredths < 1 ? 2 : 1)} %`;
}
