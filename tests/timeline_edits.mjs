// Runs functions of web/timeline/edits.js, plan_view.js and timing.js: JSON [[function, arguments], ...] on stdin, JSON [result, ...] on stdout.
import { readFileSync } from "node:fs";
import * as edits from "../web/timeline/edits.js";
import { planFacts } from "../web/timeline/plan_view.js";
import * as timing from "../web/timeline/timing.js";

const functions = { ...edits, ...timing, planFacts };
const calls = JSON.parse(readFileSync(0, "utf-8"));
process.stdout.write(JSON.stringify(calls.map(([name, given]) => functions[name](...given))));
