"""The code blocks of Markdown pages, run from top to bottom in a folder of the page's own. Not a test.

A block with a `title` is a file, which is written. Other `python` blocks are executed in one namespace for the page.
`console` blocks hold commands after `$ ` (a quote left open goes on in the next line) and what they print, where `...`
stands for anything. `sh` blocks hold what a test cannot do, such as installing packages or starting a server. A page
with the comment `<!-- goes on from PAGE -->` begins with the files of that page.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
SHOWN = ("sh", "text")
"""Languages of blocks that are shown and not run."""

GOES_ON = re.compile(r"<!-- goes on from (\S+) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file it is (or ""), its text, and the line of the page it begins in."""

    language: str
    title: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order, after the files of the page that it goes on from."""
    text = page.read_text(encoding="utf-8")
    before = GOES_ON.search(text)
    found = [block for block in blocks(page.parent / before[1]) if block.title] if before else []
    fences = [token for token in MarkdownIt().parse(text) if token.type == "fence"]
    for fence in fences:
        language, _, rest = fence.info.partition(" ")
        title = rest.removeprefix('title="').removesuffix('"') if rest.startswith('title="') else ""
        found.append(Block(language, title, fence.content, (fence.map or [0])[0] + 1))
    return found


@dataclass
class Runner:
    """Runs the blocks of one page in a folder, with the commands of an environment's `bin` folder."""

    folder: Path
    bin: Path = Path(sys.executable).parent
    namespace: dict[str, Any] = field(default_factory=lambda: {"__name__": "page"})

    def run(self, block: Block) -> Iterator[str]:
        """Run one block; yields what is wrong."""
        if block.title:
            file = self.folder / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            file = self.folder / f"line_{block.line}.py"
            file.write_text(block.text, encoding="utf-8")  # rules are read from their source
            exec(compile(block.text, str(file), "exec"), self.namespace)
        elif block.language == "console":
            for command, expected in commands(block.text):
                found, code = self._printed(command)
                if code or not _alike(expected, found):
                    yield f"line {block.line}: $ {command}\nexpected:\n{expected}\nfound:\n{found}\nexit code {code}"
        elif block.language not in SHOWN:
            yield f"line {block.line}: a block of {block.language or 'no language'} is neither a file nor run nor shown"

    def _printed(self, command: str) -> tuple[str, int]:
        environment = {
            "PATH": os.pathsep.join([str(self.bin), os.environ["PATH"]]),
            "HOME": str(self.folder),
        } | {name: os.environ[name] for name in ("XDG_CACHE_HOME",) if name in os.environ}
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr * bool(done.returncode), done.returncode


def commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with what it prints."""
    command, expected = "", list[str]()
    for line in text.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, "\n".join(expected)
            command, expected = line[2:], []
        elif command.count('"') % 2 or command.endswith("\\"):
            command += "\n" + line
        else:
            expected.append(line)
    if command:
        yield command, "\n".join(expected)


def _alike(expected: str, found: str) -> bool:
    """Whether a command printed what the page says, but for white space and where the page has `...`."""
    wanted, printed = (" ".join(text.split()) for text in (expected, found))
    parts = [re.escape(part.strip()) for part in wanted.split("...")]  # `...` may also be nothing
    return re.fullmatch(".*".join(parts), printed) is not None


def main(page: Path, bin: Path) -> None:
    """Follow a page, as its reader would, with the commands of an environment; exits with what is not as it says."""
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(Path(folder), bin)
        faults = [fault for block in blocks(page) for fault in runner.run(block)]
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
