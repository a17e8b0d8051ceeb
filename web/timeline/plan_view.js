/**
 * The expected cost of a run, as computed by Python.
 */

import { element } from "../shared/dom.js";
import { clock, rounded } from "../shared/text.js";

const MIB = 2 ** 20;
const DEVICES = /** @type {Record<string, string>} */ ({ cpu: "system RAM" });

export class PlanView {
    constructor() {
        this.facts = element("dl", { class: "kvs-facts" });
        this.lines = element("ul", { class: "kvs-lines" });
        this.root = element("div", { class: "kvs-plan", "aria-label": "Plan of the run" }, this.facts, this.lines);
    }

    /**
     * @param {any} answer
     */
    show(answer) {
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
        this.lines.replaceChildren(
            ...(answer.problems ?? []).map((/** @type {string} */ line) => element("li", { class: "kvs-problem" }, line)),
            ...[...unknown, ...(answer.notes ?? [])].map((line) => element("li", {}, line)),
        );
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
    if (sharing.block_count === 0) {
        return [...facts, ["Sharing", "off", ""]];
    }
    const steps = sharing.steps === null ? "steps unknown" : `steps ${sharing.steps || "none"} of ${sharing.all_steps}`;
    facts.push(["Sharing", `blocks ${sharing.blocks}`, `${steps}${sharing.limited ? ", part of the noise schedule" : ""}`]);
    facts.push(["Keys and values", `${sharing.exact ? "" : "up to "}${mib(sharing.bytes)}`, location(sharing)]);
    facts.push(["Shared attention", `up to ${mib(sharing.call_bytes)}`, `more ${DEVICES[sharing.device] ?? "VRAM"} while a block shares`]);
    const most = percent(sharing.most_extra) === percent(sharing.extra) ? "" : `up to ${percent(sharing.most_extra)}`;
    facts.push(["Extra computation", `about ${percent(sharing.extra)}`, most]);
    if (sharing.finding > 0) {
        const evaluations = sharing.finding === 1 ? "1 more evaluation" : `${sharing.finding} more evaluations`;
        facts.push(["First step", evaluations, "of segments, to find the subjects"]);
    }
    return facts;
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
        : `${mib(sharing.device_bytes)} in ${device}, the rest in system RAM`;
}

/**
 * @param {number} bytes
 */
function mib(bytes) {
    const size = bytes / MIB;
    return `${size >= 100 ? Math.round(size) : rounded(size, 1)} MiB`;
}

/**
 * @param {number} part
 */
function percent(part) {
    const value = part * 100;
    return `${value > 0 ? "+" : ""}${rounded(value, Math.abs(value) < 10 ? 1 : 0)} %`;
}
