/**
 * Entry point of the frontend extension. ComfyUI also imports every other module of this folder, so those have no side
 * effects on import.
 */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { keepDecimals } from "./shared/widgets.js";
import { speak } from "./shared/words.js";
import { addTimeline } from "./timeline/widget.js";
import { addViewer } from "./viewer/widget.js";

app.registerExtension({
    name: "kvshare.panels",
    nodeCreated(node) {
        speak(app.ui?.settings?.getSettingValue?.("Comfy.Locale") ?? "en");
        if (node.comfyClass === "LongVideoSegmenter") {
            keepDecimals(node, "fps", 3);
            addTimeline(node, app, api);
        } else if (node.comfyClass === "AttentionMaskPreview") {
            addViewer(node, app, api);
        }
    },
});
