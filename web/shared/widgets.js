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

/**
 * Calls a function after every change of a widget of the node by its user.
 * @param {any} node
 * @param {() => void} act
 */
export function afterEveryChange(node, act) {
    for (const widget of node.widgets) {
        const callback = widget.callback;
        widget.callback = function () {
            const result = callback?.apply(this, arguments);
            act();
            return result;
        };
    }
}

/**
 * Calls a function when the node gets its saved values.
 * @param {any} node
 * @param {() => void} act
 */
export function afterLoading(node, act) {
    const configured = node.onConfigure;
    node.onConfigure = function () {
        act();
        return configured?.apply(this, arguments);
    };
}

/**
 * Lets a number have decimals below its step: the frontend rounds to those of the step.
 * @param {any} node
 * @param {string} name
 * @param {number} decimals
 */
export function keepDecimals(node, name, decimals) {
    const widget = node.widgets?.find((/** @type {any} */ one) => one.name === name);
    if (widget?.options) {
        widget.options.precision = decimals;
    }
}
