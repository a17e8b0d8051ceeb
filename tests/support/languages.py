"""The languages of the pack beside English."""

import re

SCRIPTS = {"zh": re.compile(r"[\u4e00-\u9fff]"), "ja": re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")}
"""What a text in each of them has."""
