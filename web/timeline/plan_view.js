/**
 * The expected cost of a run, as computed by Python.
 */

import { element } from "../shared/dom.js";
import { clock, rounded } from "../shared/text.js";
import { filled, said, translated } from "../shared/words.js";

const [GB, MB] = [1e9, 1e6];
const UNKNOWN = "The model is unknown until it is loaded; segments of 21 latent frames are assumed.";
const MEANINGS = /** @type {Record<string, string>} */ ({
    Length: "How long the film is",
    Segments: "Parts that the model makes, each as long as it was trained on; neighbours overlap",
    Sharing: "Where in the model, and in which steps, segments attend to their sources",
    "Keys and values": "Memory that the sources take until other segments have used them",
    "Shared attention": "Memory that one shared attention takes beside the model's own",
    "Extra computation": "What sharing costs on top of segments that do not share",
    "First step": "What finding the subject costs, once",
});

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
                element("div", { title: MEANINGS[name] }, element("dt", {}, name), element("dd", {}, value, element("small", {}, more))),
            ),
        );
        const unknown = answer.segments && !answer.model_known ? [UNKNOWN] : [];
        const lines = (/** @type {Remark[]} */ remarks, /** @type {string} */ kind) =>
            (remarks ?? []).map((remark) => this.#line(remark, kind, open));
        // Python knows no links out of a subgraph, to a node that shares outside of it.
        const holds = (/** @type {Remark} */ { ways }) => ways.every((way) => way.kind !== "sharer" || open(way));
        this.lines.replaceChildren(
            ...lines(answer.problems, "kvs-problem"),
            ...lines(answer.warnings?.filter(holds), "kvs-warning"),
            ...[...unknown, ...(answer.notes ?? []).map(translated)].map((line) => element("li", {}, line)),
        );
    }

    /**
     * @param {Remark} remark
     * @param {string} kind
     * @param {(way: any) => boolean} open
     */
    #line({ message, beat, ways }, kind, open) {
        const told = translated(message);
        const button = (/** @type {any} */ way) =>
            element("button", { type: "button", click: () => this.listener.take(way) }, translated(way.label));
        const text =
            beat === null
                ? element("span", {}, told)
                : element("button", { type: "button", class: "kvs-place", click: () => this.listener.select(beat) }, told);
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
        ["Length", clock(seconds), filled("{0} frames, {1} latent", answer.frames, answer.latent_frames)],
        [
            "Segments",
            String(answer.segments.length),
            filled("of {0} latent frames, {1} for overlaps", answer.window, percent(answer.windows_extra)),
        ],
    ];
    const sharing = answer.sharing;
    if (!sharing) {
        return facts;
    }
    if (sharing.off !== null) {
        return [...facts, ["Sharing", "off", translated(sharing.off)]];
    }
    const steps =
        sharing.steps === null ? said("steps unknown") : filled("steps {0} of {1}", sharing.steps || said("none"), sharing.all_steps);
    const limited = sharing.limited ? `, ${said("part of the noise schedule")}` : "";
    facts.push(["Sharing", filled("blocks {0}", sharing.blocks), steps + limited]);
    facts.push(["Keys and values", ...memory(sharing)]);
    const device = deviceOf(sharing);
    facts.push(["Shared attention", upTo(sharing.call_bytes), filled("more {0} while a block shares", device)]);
    const most = percent(sharing.most_extra) === percent(sharing.extra) ? "" : filled("up to {0}", percent(sharing.most_extra));
    facts.push(["Extra computation", filled("about {0}", percent(sharing.extra)), most]);
    if (sharing.finding > 0) {
        const more = sharing.finding === 1 ? said("1 more evaluation") : filled("{0} more evaluations", sharing.finding);
        facts.push(["First step", more, said("of segments, to find the subjects")]);
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
    const numbers = location(sharing);
    return sharing.exact || most === expected
        ? [sharing.exact ? most : upTo(sharing.bytes), numbers]
        : [filled("about {0}", expected), `${filled("at most {0}", most)}; ${numbers}`];
}

/**
 * @param {any} sharing
 */
function location(sharing) {
    const { bits, bytes, device_bytes: near } = sharing;
    if (near > 0 && near < bytes) {
        return filled("{0}-bit numbers in {1} up to {2}, the rest in system RAM", bits, deviceOf(sharing), size(near));
    }
    return filled("{0}-bit numbers in {1}", bits, near === 0 && bytes > 0 ? said("system RAM") : deviceOf(sharing));
}

/**
 * @param {any} sharing
 */
function deviceOf({ device }) {
    return said(device === "cpu" ? "system RAM" : "VRAM");
}

/**
 * @param {number} bytes
 */
function upTo(bytes) {
    return filled("up to {0}", size(bytes));
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
