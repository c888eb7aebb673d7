"""Documents name what exists: links lead to files, paths in backquotes are there, and each decision is in the index."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from kernel.config.sections import Config

TREE = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path.relative_to(TREE)
    for pattern in ("*.md", "docs/**/*.md", "kernel/**/*.md", "services/**/*.md", "tests/**/*.md")
    for path in TREE.glob(pattern)
)
LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)]*)?\)")
PATH = re.compile(r"`((?:kernel|services|tests|deploy|docs)/[A-Za-z0-9_./-]+)`")
KEY = re.compile(r"`(image|storage|network|runtime|stream)\.([a-z_]+)`")
MODULE = re.compile(r"`([a-z_]+\.py)`")
SECTIONS = ["Context", "Decision", "Consequences", "Measured"]
DECISIONS = sorted((TREE / "docs" / "decisions").glob("[0-9]*.md"))


def name(path: Path) -> str:
    return str(path)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_lead_somewhere(document: Path) -> None:
    targets = [target for target in LINK.findall((TREE / document).read_text()) if "://" not in target]
    missing = [target for target in targets if not (TREE / document.parent / target).exists()]
    assert not missing, f"{document} links to what is not there"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_paths_in_backquotes_exist(document: Path) -> None:
    missing = [path for path in PATH.findall((TREE / document).read_text()) if not (TREE / path).exists()]
    assert not missing, f"{document} names what is not there"


@pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if path.parts[0] not in ("kernel", "services")], ids=name
)
def test_modules_in_backquotes_exist(document: Path) -> None:
    modules = {path.name for folder in ("kernel", "services", "tests") for path in (TREE / folder).rglob("*.py")}
    missing = set(MODULE.findall((TREE / document).read_text())) - modules
    assert not missing, f"{document} names modules that are not there"


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_has_its_parts_and_is_in_the_index(page: Path) -> None:
    text = page.read_text()
    assert text.startswith(f"# {page.name[:4]} ")
    headings = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert [heading for heading in headings if heading in SECTIONS] == SECTIONS
    assert f"]({page.name}) |" in (TREE / "docs" / "decisions" / "README.md").read_text()


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if path.parent == Path("docs")], ids=name)
def test_keys_of_the_configuration_exist(document: Path) -> None:
    keys = KEY.findall((TREE / document).read_text())
    unknown = [f"{section}.{key}" for section, key in keys if not hasattr(getattr(Config(), section), key)]
    assert not unknown, f"{document} names keys that the configuration does not have"


def test_the_floors_are_those_of_the_import_rules() -> None:
    """Each `layers` contract of a whole package is a row of the table in docs/architecture.md."""
    rules = tomllib.loads((TREE / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    page = (TREE / "docs" / "architecture.md").read_text()
    for rule in rules:
        package = rule.get("containers", ["kernel"])[0]
        if rule["type"] != "layers" or package.count(".") > 1:
            continue
        floors = [layer.replace("kernel.", "").replace("|", "\\|") for layer in rule["layers"]]
        row = f"| {package.rpartition('.')[2]} | {' / '.join(floors)} |\n"
        assert row in page, f"docs/architecture.md: the floors of {package} are now\n{row}"


def test_fields_are_named_in_the_modules_that_the_page_gives() -> None:
    """In docs/architecture.md: a field is a word of a module where it is checked, and of one where it takes effect."""
    page = (TREE / "docs" / "architecture.md").read_text()
    rows = re.findall(
        r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", page.partition("## Where a field of the CRI goes")[2], re.M
    )
    assert len(rows) > 20
    for fields, *places in rows:
        for place in places:
            text = "\n".join((TREE / module).read_text() for module in PATH.findall(place))
            missing = [field for field in re.findall(r"`(\w+)`", fields) if not re.search(rf"\b{field}\b", text)]
            assert not missing, f"docs/architecture.md: {missing} is not in {place}"
