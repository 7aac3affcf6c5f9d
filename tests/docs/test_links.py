"""The pages: what they link to is there, README leads to all of them, what they name exists."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
README = ROOT / "README.md"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
#: What stands for itself: a file or folder of this repository.
PATH = re.compile(
    r"(?<![\w./{-])(?:(?:bin|conf|docs|plugins|tests|bench)/[\w./-]*[\w/](?![\w./-]*[{<*])"
    r"|vsmgate/[\w/]+\.py\b)"
)


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def links(page: Path) -> list[tuple[Path, str]]:
    """Return (file, fragment) of each link that stays in the repository."""
    found = []
    for target in LINK.findall(prose(page)):
        if not re.match(r"\w+:", target):
            path, _, fragment = target.partition("#")
            found.append(((page.parent / path).resolve() if path else page, fragment))
    return found


def anchors(page: Path) -> set[str]:
    """Return the fragments that the headings of a page get on GitHub."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for file, fragment in links(page):
        assert file.exists(), f"{named(page)} links to {file}"
        assert not fragment or fragment in anchors(file), f"{named(file)} has no #{fragment}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [README]
    while waiting:
        page = waiting.pop()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            waiting += [file for file, _ in links(page)]
    assert set(PAGES) <= reached


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_what_it_names_is_there(page: Path) -> None:
    text = re.sub(r"\]\([^)]*\)|https?://\S+|/etc/\S+|/v1/\S+", "", page.read_text())
    for name in sorted(set(PATH.findall(text))):
        there = (ROOT / name).exists() or (ROOT / "tests" / name).exists()
        assert there, f"{named(page)} names {name}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_its_toml_is_toml(page: Path) -> None:
    for kind, text in FENCE.findall(page.read_text()):
        if kind == "toml":
            try:
                tomllib.loads(text)
            except tomllib.TOMLDecodeError as error:
                pytest.fail(f"{named(page)}: {error}\n{text}")


def test_the_readme_names_every_command() -> None:
    told = README.read_text()
    for command in (ROOT / "bin").iterdir():
        if not command.name.startswith("_"):
            assert re.search(rf"\b{command.name}\b", told), f"README does not name {command}"
