/**
 * The keyboard of the timeline.
 */

/** One press of a zoom key or button. */
export const ZOOM = 1.5;

/**
 * @typedef {object} Actions
 * @property {() => void} undo
 * @property {() => void} redo
 * @property {(frames: number) => void} lengthen Adds latent frames to the selected beat, or removes them.
 * @property {(way: number) => void} move Moves the selected beat to the right (1) or left (-1).
 * @property {(way: number) => void} select Selects the next beat (1) or the previous one (-1).
 * @property {() => void} first
 * @property {() => void} last
 * @property {() => void} write Goes to the prompt of the selected beat.
 * @property {() => void} split
 * @property {() => void} duplicate
 * @property {() => void} delete
 * @property {() => void} add
 * @property {(factor: number) => void} zoom 0 shows the whole film.
 */

/**
 * The action of a key press on the timeline; null for a key that has none.
 * @param {KeyboardEvent} event
 * @param {Actions} actions
 * @returns {(() => void) | null}
 */
export function actionOf(event, actions) {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.ctrlKey || event.metaKey) {
        const redo = key === "y" || (key === "z" && event.shiftKey);
        return redo ? actions.redo : key === "z" ? actions.undo : null;
    }
    if (key === "ArrowRight" || key === "ArrowLeft") {
        const way = key === "ArrowRight" ? 1 : -1;
        const act = event.shiftKey ? actions.lengthen : event.altKey ? actions.move : actions.select;
        return () => act(way);
    }
    const others = /** @type {Record<string, () => void>} */ ({
        Home: actions.first,
        End: actions.last,
        Delete: actions.delete,
        Backspace: actions.delete,
        Enter: actions.write,
        s: actions.split,
        d: actions.duplicate,
        a: actions.add,
        "+": () => actions.zoom(ZOOM),
        "=": () => actions.zoom(ZOOM),
        "-": () => actions.zoom(1 / ZOOM),
        0: () => actions.zoom(0),
    });
    return others[key] ?? null;
}
