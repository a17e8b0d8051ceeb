"""What reviewers' tools object to fails the check, with their own words."""

import sys
from pathlib import Path

from devtools.environment import ROOT
from devtools.review import TOOLS, objections


def test_tools_that_fail_are_quoted(tmp_path: Path) -> None:
    (tmp_path / "bad.py").touch()
    look = "import os, sys; print('found', *os.listdir()); sys.exit('bad.py' in os.listdir())"
    fine, failing = (sys.executable, "-c", "print('all is well')"), (sys.executable, "-c", look)
    assert objections([fine], tmp_path) == []
    (said,) = objections([fine, failing], tmp_path)
    assert said.endswith("failed:\nfound bad.py")


def test_every_tool_has_a_version() -> None:
    pinned = (ROOT / "devtools" / "requirements-reviewers.txt").read_text(encoding="utf-8")
    assert all(f"\n{name}==" in pinned for name, *_ in TOOLS)
