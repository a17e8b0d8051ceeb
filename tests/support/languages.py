"""The languages of the pack beside English."""

import json
import re
import subprocess
from collections.abc import Sequence

from devtools.browser import find_node
from devtools.environment import ROOT

SCRIPTS = {"zh": re.compile(r"[\u4e00-\u9fff]"), "ja": re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")}
"""What a text in each of them has."""

_RUN = f"""import {{ speak, translated }} from {json.dumps((ROOT / "web" / "shared" / "words.js").as_uri())};
const languages = {json.dumps(["en", *SCRIPTS])};
const all = languages.map((language) => {{
    speak(language);
    return MESSAGES.map((message) => translated(message));
}});
process.stdout.write(JSON.stringify(all));"""


def in_every_language(messages: Sequence[str]) -> dict[str, list[str]]:
    """Messages from Python as the frontend shows them in each language, English among them."""
    code = f"const MESSAGES = {json.dumps(list(messages))};\n{_RUN}"
    command = [find_node(), "--input-type=module", "--eval", code]
    answer = subprocess.run(command, capture_output=True, check=True).stdout
    return dict(zip(("en", *SCRIPTS), json.loads(answer), strict=True))
