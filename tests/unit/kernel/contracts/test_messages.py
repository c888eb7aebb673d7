"""docs/messages.md is what `tests/tools/make_messages.py` makes of the contracts, and all its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
PAGE = ROOT / "docs" / "messages.md"


def test_the_page_is_made_of_the_contracts_of_today(tmp_path: Path) -> None:
    script = ROOT / "tests" / "tools" / "make_messages.py"
    made = tmp_path / "messages.md"
    subprocess.run([sys.executable, str(script), "--to", str(made)], check=True, timeout=60)
    assert made.read_text() == PAGE.read_text(), "run python tests/tools/make_messages.py"


def test_every_link_of_the_page_leads_somewhere() -> None:
    text = PAGE.read_text()
    anchors = re.findall(r'<a id="([^"]+)"', text)
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= set(anchors)
    for page in re.findall(r"\]\(([\w.]+)\)", text):
        assert (PAGE.parent / page).exists()
