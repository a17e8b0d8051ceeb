// Runs edits of web/timeline/edits.js: JSON [[function, arguments], ...] on stdin, JSON [result, ...] on stdout.
import { readFileSync } from "node:fs";
import * as edits from "../web/timeline/edits.js";

const calls = JSON.parse(readFileSync(0, "utf-8"));
process.stdout.write(JSON.stringify(calls.map(([name, given]) => edits[name](...given))));
