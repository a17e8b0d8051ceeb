/**
 * What the host's frontend loads. It also imports every other module of this folder by itself, so those do nothing when
 * they are imported.
 */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { addTimeline } from "./timeline/widget.js";
import { addViewer } from "./viewer/widget.js";

app.registerExtension({
    name: "KVShare",
    nodeCreated(node) {
        if (node.comfyClass === "LongVideoSegmenter") {
            addTimeline(node, app, api);
        } else if (node.comfyClass === "AttentionMaskPreview") {
            addViewer(node, app, api);
        }
    },
});
