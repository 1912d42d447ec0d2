"""The pages of the documentation, and what stands in them."""

import dataclasses
import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*DOCS, *sorted(ROOT.glob("*.md"))]
FENCE = re.compile(r"^(?P<mark><!-- run -->\n)?(?P<ticks>```)(?P<language>[\w{}-]*)\n(?P<text>.*?)^```$", re.M | re.S)
RUN = "<!-- run -->"


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and whether a test runs it."""

    page: Path
    language: str
    text: str
    run: bool

    def commands(self) -> list[list[str]]:
        """The words of each command line, without comments."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [Block(page, found["language"], found["text"], bool(found["mark"])) for found in FENCE.finditer(text)]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """What its headings are called in links."""
    titles = re.findall(r"^#+ (.+)$", prose(page), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
