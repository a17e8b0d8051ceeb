/**
 * The ring around the chosen point.
 */

/** Colours and widths of a ring that is visible on any background. */
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
