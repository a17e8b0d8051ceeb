/**
 * The expected cost of a run, as computed by Python.
 */

import { element } from "../shared/dom.js";
import { clock, rounded } from "../shared/text.js";

const [GB, MB] = [1e9, 1e6];
const DEVICES = /** @type {Record<string, string>} */ ({ cpu: "system RAM" });

/**
 * A message about the film, from kvshare_core/host/editor/remarks.py. beat: counted from 0, null for the whole film; ways:
 * ways out of it.
 * @typedef {{message: string, beat: number | null, ways: any[]}} Remark
 */

export class PlanView {
    /**
     * @param {{select: (beat: number) => void, take: (way: any) => void}} listener Goes to a beat, and takes a way out.
     */
    constructor(listener) {
        this.listener = listener;
        this.facts = element("dl", { class: "kvs-facts" });
        this.lines = element("ul", { class: "kvs-lines" });
        this.root = element("div", { class: "kvs-plan", "aria-label": "Plan of the run" }, this.facts, this.lines);
    }

    /**
     * @param {any} answer
     * @param {(way: any) => boolean} open Whether a way out can be taken here.
     */
    show(answer, open) {
        const facts = answer.segments ? planFacts(answer) : [];
        this.facts.replaceChildren(
            ...facts.map(([name, value, more]) =>
                element("div", {}, element("dt", {}, name), element("dd", {}, value, element("small", {}, more))),
            ),
        );
        const unknown =
            answer.segments && !answer.model_known
                ? ["The model is unknown until it is loaded; segments of 21 latent frames are assumed."]
                : [];
        const lines = (/** @type {Remark[]} */ remarks, /** @type {string} */ kind) =>
            (remarks ?? []).map((remark) => this.#line(remark, kind, open));
        // Python knows no links out of a subgraph, to a node that shares outside of it.
        const holds = (/** @type {Remark} */ { ways }) => ways.every((way) => way.kind !== "sharer" || open(way));
        this.lines.replaceChildren(
            ...lines(answer.problems, "kvs-problem"),
            ...lines(answer.warnings?.filter(holds), "kvs-warning"),
            ...[...unknown, ...(answer.notes ?? [])].map((line) => element("li", {}, line)),
        );
    }

    /**
     * @param {Remark} remark
     * @param {string} kind
     * @param {(way: any) => boolean} open
     */
    #line({ message, beat, ways }, kind, open) {
        const button = (/** @type {any} */ way) =>
            element("button", { type: "button", click: () => this.listener.take(way) }, way.label);
        const text =
            beat === null
                ? element("span", {}, message)
                : element("button", { type: "button", class: "kvs-place", click: () => this.listener.select(beat) }, message);
        return element("li", { class: kind }, text, ...ways.filter(open).map(button));
    }
}

/**
 * Name, value and a detail in small print.
 * @param {any} answer
 * @returns {[string, string, string][]}
 */
export function planFacts(answer) {
    const seconds = answer.frames / answer.fps;
    /** @type {[string, string, string][]} */
    const facts = [
        ["Length", clock(seconds), `${answer.frames} frames, ${answer.latent_frames} latent`],
        ["Segments", String(answer.segments.length), `of ${answer.window} latent frames, ${percent(answer.windows_extra)} for overlaps`],
    ];
    const sharing = answer.sharing;
    if (!sharing) {
        return facts;
    }
    if (sharing.off !== null) {
        return [...facts, ["Sharing", "off", sharing.off]];
    }
    const steps = sharing.steps === null ? "steps unknown" : `steps ${sharing.steps || "none"} of ${sharing.all_steps}`;
    facts.push(["Sharing", `blocks ${sharing.blocks}`, `${steps}${sharing.limited ? ", part of the noise schedule" : ""}`]);
    facts.push(["Keys and values", ...memory(sharing)]);
    facts.push(["Shared attention", `up to ${size(sharing.call_bytes)}`, `more ${DEVICES[sharing.device] ?? "VRAM"} while a block shares`]);
    const most = percent(sharing.most_extra) === percent(sharing.extra) ? "" : `up to ${percent(sharing.most_extra)}`;
    facts.push(["Extra computation", `about ${percent(sharing.extra)}`, most]);
    if (sharing.finding > 0) {
        const evaluations = sharing.finding === 1 ? "1 more evaluation" : `${sharing.finding} more evaluations`;
        facts.push(["First step", evaluations, "of segments, to find the subjects"]);
    }
    return facts;
}

/**
 * What the bank holds, and where.
 * @param {any} sharing
 * @returns {[string, string]}
 */
function memory(sharing) {
    const most = size(sharing.bytes);
    const expected = size(sharing.expected_bytes);
    const numbers = `${sharing.bits}-bit numbers ${location(sharing)}`;
    return sharing.exact || most === expected
        ? [`${sharing.exact ? "" : "up to "}${most}`, numbers]
        : [`about ${expected}`, `at most ${most}; ${numbers}`];
}

/**
 * @param {any} sharing
 */
function location(sharing) {
    const device = DEVICES[sharing.device] ?? "VRAM";
    if (sharing.device_bytes >= sharing.bytes) {
        return `in ${device}`;
    }
    return sharing.device_bytes === 0
        ? "in system RAM"
        : `in ${device} up to ${size(sharing.device_bytes)}, the rest in system RAM`;
}

/**
 * @param {number} bytes
 */
function size(bytes) {
    const [unit, name] = bytes >= GB / 10 ? [GB, "GB"] : [MB, "MB"];
    return `${rounded(bytes / unit, bytes >= 10 * unit ? 0 : 1)} ${name}`;
}

/**
 * @param {number} part
 */
function percent(part) {
    const value = part * 100;
    return `${value > 0 ? "+" : ""}${rounded(value, Math.abs(value) < 10 ? 1 : 0)} %`;
}
