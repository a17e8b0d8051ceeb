/**
 * The graph around a node in ComfyUI's API format, as far as it is known without running anything: widget values and
 * links. Python interprets it (nodes/plan_answer.py).
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
 * The ids under which ComfyUI may execute a node: inside a subgraph, they are prefixed with the ids of the subgraph nodes.
 * @param {any} node
 * @returns {string[]}
 */
export function idsOf(node) {
    return idsIn(node.graph?.rootGraph ?? node.graph, node);
}

/**
 * @param {any} graph
 * @param {any} node
 * @returns {string[]}
 */
function idsIn(graph, node) {
    const own = graph && graph === node.graph ? [String(node.id)] : [];
    const outer = (graph?._nodes ?? []).filter((/** @type {any} */ other) => other.subgraph);
    return [
        ...own,
        ...outer.flatMap((/** @type {any} */ other) => idsIn(other.subgraph, node).map((id) => `${other.id}:${id}`)),
    ];
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
