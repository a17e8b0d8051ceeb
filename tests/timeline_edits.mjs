// Runs functions of web/timeline/edits.js and of others beside it: JSON [[function, arguments], ...] on stdin, JSON [result, ...] on stdout.
import { readFileSync } from "node:fs";
import * as edits from "../web/timeline/edits.js";
import { pastedProse } from "../web/timeline/pasted_lines.js";
import { planFacts } from "../web/timeline/plan_view.js";
import * as timing from "../web/timeline/timing.js";
import { changedFilm } from "../web/timeline/ways.js";

const functions = { ...edits, ...timing, changedFilm, pastedProse, planFacts };
const calls = JSON.parse(readFileSync(0, "utf-8"));
process.stdout.write(JSON.stringify(calls.map(([name, given]) => functions[name](...given))));
