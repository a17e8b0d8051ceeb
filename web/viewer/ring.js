/**
 * The ring around the chosen point, and the outline of a mask.
 */

/** Colours and widths of lines that are visible on any background. */
const RING = /** @type {[string, number][]} */ ([
    ["#000", 4],
    ["#fff", 2],
]);

/**
 * Draws a ring around a point of the frame.
 * @param {any} screen The canvas's 2D context.
 * @param {{x: number, y: number}} point As fractions of width and height.
 */
export function drawRing(screen, point) {
    const { width, height } = screen.canvas;
    const side = Math.max(width, height);
    screen.globalAlpha = 1;
    for (const [colour, line] of RING) {
        screen.beginPath();
        screen.arc(point.x * width, point.y * height, side / 40, 0, 2 * Math.PI);
        screen.strokeStyle = colour;
        screen.lineWidth = (line * side) / 400;
        screen.stroke();
    }
}

/**
 * Draws the outline of a mask.
 * @param {any} screen
 * @param {number[][]} lines [x1, y1, x2, y2], as fractions of width and height.
 */
export function drawOutline(screen, lines) {
    const { width, height } = screen.canvas;
    screen.globalAlpha = 1;
    screen.lineCap = "square";
    for (const [colour, line] of RING) {
        screen.beginPath();
        for (const [x1, y1, x2, y2] of lines) {
            screen.moveTo(x1 * width, y1 * height);
            screen.lineTo(x2 * width, y2 * height);
        }
        screen.strokeStyle = colour;
        screen.lineWidth = (line * Math.max(width, height)) / 500;
        screen.stroke();
    }
}
