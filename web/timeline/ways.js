/**
 * Ways out of what the plan warns of, which it offers as buttons: kvshare_core/host/editor/remarks.py says which.
 */

import { writeWidget } from "../shared/widgets.js";
import { translated } from "../shared/words.js";
import { setFields } from "./edits.js";
import { withFirstLine } from "./text_changes.js";

const SHARER = "MaskGuidedKVShare";
const GAP = 40;

/**
 * What is wrong with beats, by their index.
 * @param {any} answer
 * @returns {Map<number, string>}
 */
export function wrongBeats({ error, problems = [] }) {
    const places = [...(error ? [error] : []), ...problems].filter(({ beat }) => (beat ?? null) !== null);
    return new Map(places.map(({ beat, message }) => [beat, translated(message)]));
}

/**
 * Whether a way out changes the text of the film; others change the graph.
 * @param {any} way
 */
export function changesFilm({ kind }) {
    return kind === "line" || kind === "fields";
}

/**
 * Whether a way out can be taken.
 * @param {any} way
 * @param {any} node The segmenter.
 * @param {boolean} editable Whether the text of the film can be edited.
 */
export function canTake(way, node, editable) {
    if (changesFilm(way)) {
        return editable;
    }
    return way.kind === "widget" ? widgetOf(way, node) !== undefined : isFree(node.outputs?.[outputOf(node, "timeline")]);
}

/**
 * The film after a way out; null if there is no such beat.
 * @param {any} way
 * @param {string} text
 * @param {any[]} beats
 */
export function changedFilm(way, text, beats) {
    if (way.kind === "line") {
        return withFirstLine(text, way.text);
    }
    return way.beat < beats.length ? setFields(text, beats, way.beat, way.name, way.values) : null;
}

/**
 * Takes a way out in the graph around the segmenter.
 * @param {any} way
 * @param {any} node
 * @param {any} app
 */
export function takeInGraph(way, node, app) {
    if (way.kind === "widget") {
        writeWidget(app, widgetOf(way, node), way.value);
    } else if (way.kind === "sharer") {
        app.canvas?.emitBeforeChange?.();
        addSharer(node);
        app.canvas?.emitAfterChange?.();
    }
}

/**
 * @param {any} way
 * @param {any} node
 */
function widgetOf({ node: id, name }, node) {
    const other = node.graph?._nodes.find((/** @type {any} */ one) => String(one.id) === id);
    return other?.widgets?.find((/** @type {any} */ widget) => widget.name === name);
}

/**
 * Puts MaskGuidedKVShare between the model and what samples the film.
 * @param {any} node
 */
function addSharer(node) {
    const { graph } = node;
    const sharer = /** @type {any} */ (window).LiteGraph.createNode(SHARER);
    sharer.pos = [node.pos[0] + node.size[0] + GAP, node.pos[1]];
    const samplers = targetsOf(node, "latent").filter((target) => inputOf(target, "model") >= 0);
    graph.add(sharer);
    const model = graph.getLink?.(node.inputs[inputOf(node, "model")]?.link);
    const loader = model && graph.getNodeById(model.origin_id);
    loader?.connect(model.origin_slot, sharer, inputOf(sharer, "model"));
    node.connect(outputOf(node, "timeline"), sharer, inputOf(sharer, "timeline"));
    for (const sampler of samplers) {
        sharer.connect(outputOf(sharer, "model"), sampler, inputOf(sampler, "model"));
    }
    makeRoom(graph, sharer);
}

/**
 * Moves a node down until it lies on no other.
 * @param {any} graph
 * @param {any} node
 */
function makeRoom(graph, node) {
    const lies = (/** @type {any} */ other) =>
        other !== node &&
        other.pos[0] < node.pos[0] + node.size[0] + GAP &&
        node.pos[0] < other.pos[0] + other.size[0] + GAP &&
        other.pos[1] - GAP < node.pos[1] + node.size[1] + GAP &&
        node.pos[1] - GAP < other.pos[1] + other.size[1] + GAP;
    const below = (/** @type {any} */ other) => other.pos[1] + other.size[1] + 2 * GAP + 1;
    for (let other = graph._nodes.find(lies); other; other = graph._nodes.find(lies)) {
        node.pos = [node.pos[0], below(other)];
    }
}

/**
 * The nodes that an output is connected to.
 * @param {any} node
 * @param {string} name
 */
function targetsOf(node, name) {
    const links = node.outputs[outputOf(node, name)]?.links ?? [];
    return [...links]
        .map((id) => node.graph.getLink?.(id))
        .map((link) => link && node.graph.getNodeById(link.target_id))
        .filter(Boolean);
}

/**
 * Whether an output is there and leads nowhere.
 * @param {any} output
 */
function isFree(output) {
    return output !== undefined && (output.links ?? []).length === 0;
}

/**
 * @param {any} node
 * @param {string} name
 */
function inputOf(node, name) {
    return (node.inputs ?? []).findIndex((/** @type {any} */ input) => input.name === name);
}

/**
 * @param {any} node
 * @param {string} name
 */
function outputOf(node, name) {
    return (node.outputs ?? []).findIndex((/** @type {any} */ output) => output.name === name);
}
