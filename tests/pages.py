"""The documentation as data: fenced blocks, command lines, links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: A sentence that ends by naming a file introduces it: "Put this into `hello.py`:"
_NAMES_FILE = re.compile(r"`([\w./]+\.\w+)`:$")
_PROMPT = re.compile(r"^[\w-]*\$ (.*)$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)#:]+)\)")
_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A fenced block."""

    language: str
    text: str
    #: The last line of prose above it.
    lead: str
    #: Its first line's number on the page.
    line: int

    @property
    def file(self) -> str | None:
        """The file that the page says it is."""
        found = _NAMES_FILE.search(self.lead)
        return found[1] if found else None

    @property
    def commands(self) -> list[str]:
        """What is typed behind a prompt, without the comments behind it."""
        return [_without_comment(command) for command in _PROMPT.findall(self.text)]


@dataclass(frozen=True)
class Page:
    """A Markdown file."""

    path: Path

    @property
    def name(self) -> str:
        """Relative to the repository."""
        return str(self.path.relative_to(ROOT))

    @cached_property
    def text(self) -> str:
        """All of it."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Its fenced blocks, from the top."""
        return tuple(self._blocks())

    def of(self, language: str) -> list[Block]:
        """The blocks in one language."""
        return [block for block in self.blocks if block.language == language]

    def block(self, lead: str) -> Block:
        """The one block that a line of prose introduces."""
        (found,) = [block for block in self.blocks if block.lead == lead]
        return found

    def write_files(self, folder: Path) -> None:
        """Write the files that the page shows; what it shows of one file in several blocks is joined."""
        for block in self.blocks:
            if block.file is not None:
                path = folder / block.file
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("a", encoding="utf-8") as file:
                    file.write(block.text)

    @property
    def links(self) -> list[str]:
        """Targets of relative links."""
        return _LINK.findall(self._prose)

    @property
    def code(self) -> list[str]:
        """What is set as code within the prose."""
        return [" ".join(found.split()) for found in _CODE.findall(self._prose)]

    @property
    def _prose(self) -> str:
        return _FENCE.sub("", self.text)

    def _blocks(self) -> Iterator[Block]:
        for match in _FENCE.finditer(self.text):
            above = self.text[: match.start()].rstrip().rpartition("\n")[2]
            line = self.text.count("\n", 0, match.start()) + 2
            yield Block(language=match[1], text=match[2], lead=above, line=line)


def _without_comment(command: str) -> str:
    return shlex.join(shlex.split(command, comments=True)) if "#" in command else command


README = Page(ROOT / "README.md")
GUIDE = Page(ROOT / "docs/guide.md")
REFERENCE = Page(ROOT / "docs/reference.md")
PAGES = (README, *(Page(path) for path in sorted((ROOT / "docs").glob("*.md"))))
