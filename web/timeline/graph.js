/**
 * The graph around a node in ComfyUI's API format, as far as it can be seen without running anything: values of widgets
 * and links. What it means is for Python to say (nodes/live_plan.py).
 */

const ALWAYS = 0;
const LONGEST_TEXT = 200_000;

/**
 * @param {any} node
 */
export function graphAround(node) {
    const graph = node.graph;
    /** @type {Record<string, {class_type: string, inputs: Record<string, any>}>} */
    const nodes = {};
    for (const other of graph?._nodes ?? []) {
        if ((other.mode ?? ALWAYS) === ALWAYS || other === node) {
            nodes[other.id] = { class_type: other.comfyClass ?? other.type, inputs: inputsOf(graph, other) };
        }
    }
    return nodes;
}

/**
 * @param {any} graph
 * @param {any} node
 */
function inputsOf(graph, node) {
    /** @type {Record<string, any>} */
    const inputs = {};
    for (const widget of node.widgets ?? []) {
        const value = widget.options?.serialize === false ? undefined : widget.value;
        const plain = ["number", "boolean"].includes(typeof value);
        if (plain || (typeof value === "string" && value.length <= LONGEST_TEXT)) {
            inputs[widget.name] = value;
        }
    }
    for (const input of node.inputs ?? []) {
        const link = input.link === null || input.link === undefined ? null : graph.getLink?.(input.link);
        if (link) {
            inputs[input.name || "input"] = [String(link.origin_id), link.origin_slot];
        }
    }
    return inputs;
}
