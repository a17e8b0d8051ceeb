/**
 * Helpers for node widgets.
 */

/**
 * Sets a widget as if the user had typed the value.
 * @param {any} app The frontend's app object.
 * @param {any} widget
 * @param {any} value
 */
export function writeWidget(app, widget, value) {
    const canvas = app.canvas;
    // The frontend records everything between these two calls as one change, for undo and for workflow drafts.
    canvas?.emitBeforeChange?.();
    widget.value = value;
    // Canvas widgets have already called their callback; DOM widgets need it called.
    widget.callback?.(value);
    canvas?.emitAfterChange?.();
}
