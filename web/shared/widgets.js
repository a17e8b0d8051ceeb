/**
 * Widgets of nodes.
 */

/**
 * Sets a widget as if the user had typed the value.
 * @param {any} app The frontend's own.
 * @param {any} widget
 * @param {any} value
 */
export function writeWidget(app, widget, value) {
    const canvas = app.canvas;
    // Between these two the frontend takes notice of one change, for its own undo and for what it keeps of the page.
    canvas?.emitBeforeChange?.();
    widget.value = value;
    // Widgets of the canvas have already called back; those of the page want to be told.
    widget.callback?.(value);
    canvas?.emitAfterChange?.();
}
