"""What README.md and docs/*.md tell a reader to type, the yaml they show, and the output they print.

A command is a line of a fenced block, or a code span, that begins with one of ``PROGRAMS``; a backslash continues it.
Output is what follows a line ``$ command`` in its block. A block of anything else names its language.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = sorted([REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")])
PROGRAMS = (
    "python",
    ".venv/bin/python",
    "make",
    "pip",
    "jepa-run",
    "jepa-results",
    "jepa-plan",
    "jepa-import-config",
    "optuna-dashboard",
    "tensorboard",
    "wandb",
)
LANGUAGES = ("yaml", "python", "text", "bash", "console", "json")


@dataclass(frozen=True)
class Found:
    """Something on a page: where it is, its text, and for a command the output that is shown of it."""

    page: str
    line: int
    text: str
    output: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """The page and the line, a name for a test."""
        return f"{self.page}:{self.line}"

    @property
    def words(self) -> list[str]:
        """The command's words, without its comment."""
        return shlex.split(self.text, comments=True)


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: str
    line: int  # of its fence
    language: str
    lines: list[str]
    after: str  # the paragraph below it


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a page."""
    lines = path.read_text(encoding="utf-8").splitlines()
    fences = [index for index, line in enumerate(lines) if line.lstrip().startswith("```")]
    found = []
    for first, last in zip(fences[::2], fences[1::2], strict=True):
        rest = "\n".join(lines[last + 1 :]).strip("\n")
        language = lines[first].strip().removeprefix("```").strip()
        found.append(Block(path.name, first + 1, language, lines[first + 1 : last], rest.partition("\n\n")[0]))
    return found


def prose(path: Path) -> list[str]:
    """The lines of a page outside its blocks."""
    lines = path.read_text(encoding="utf-8").splitlines()
    inside = {number for block in blocks(path) for number in range(block.line, block.line + len(block.lines) + 2)}
    return [line for number, line in enumerate(lines, start=1) if number not in inside]


def anchors(path: Path) -> set[str]:
    """The names that links give to the headings of a page."""
    headings = (line.lstrip("#").strip().lower() for line in prose(path) if line.startswith("#"))
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}


def links(path: Path) -> list[tuple[Path, str]]:
    """The file and the anchor, or an empty text, of every link of a page to a file of the repository."""
    targets = re.findall(r"\]\(([^)\s]+)\)", "\n".join(prose(path)))
    return [
        (path.parent / name if name else path, anchor)
        for name, _, anchor in (target.partition("#") for target in targets if "://" not in target)
    ]


def lay_out(path: Path, folder: Path) -> None:
    """Write the files that a page shows into ``folder``: blocks whose first line names one, as in ``# mypkg/parts.py``.

    Several python blocks of one file add up. Folders of python files become packages.
    """
    for block in blocks(path):
        first = next((line for line in block.lines if not line.startswith("# @package")), "")  # Hydra wants it on top
        named = re.match(r"# ([\w./]+\.(?:py|yaml))(?::|$)", first)
        if block.language not in ("python", "yaml") or named is None:
            continue
        target = folder / named[1]
        target.parent.mkdir(parents=True, exist_ok=True)
        if block.language == "python":
            (target.parent / "__init__.py").touch()
        before = target.read_text(encoding="utf-8") if block.language == "python" and target.exists() else ""
        target.write_text(before + "\n".join(block.lines) + "\n", encoding="utf-8")


def is_command(text: str) -> bool:
    """Whether a line, or a code span, is something to type."""
    return " " in text and text.split()[0] in PROGRAMS


def commands(path: Path) -> list[Found]:
    """The commands of a page, in its blocks and in its text, with the output that is shown of them."""
    found = [one for block in blocks(path) for one in _of_block(block)]
    inside = {number for block in blocks(path) for number in range(block.line, block.line + len(block.lines) + 2)}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if number not in inside:
            spans = re.findall(r"`([^`]+)`", line)
            found += [Found(path.name, number, span) for span in spans if is_command(span)]
    return found


def _of_block(block: Block) -> list[Found]:
    if block.language not in ("", "bash", "console"):
        return []
    found: list[Found] = []
    output: list[str] | None = None
    text = ""
    for number, line in enumerate(block.lines, start=block.line + 1):
        prompt = line.startswith("$ ")
        if text or prompt or (output is None and is_command(line)):
            text += (line[2:] if prompt else line).strip()
            if text.endswith("\\"):
                text = text[:-1]
                continue
            output = [] if prompt else None
            found.append(Found(block.page, number, text))
            text = ""
        elif output is not None:
            output.append(line)
            found[-1] = Found(found[-1].page, found[-1].line, found[-1].text, tuple(output))
    return found


def untold(path: Path) -> list[Block]:
    """Blocks of which a reader cannot tell what they are: no language, no command."""
    return [block for block in blocks(path) if block.language not in LANGUAGES and not _of_block(block)]


# --- output ----------------------------------------------------------------------------------------------------------

VERDICTS = ("ignores the dot", "knows only the start", "tracks")
PASSING = "this machine is busy"  # what the program says of the moment
_NUMBER = r"[-+]?\d[\d.,:]*(?:e[-+]?\d+)?"


def normalised(line: str) -> str:
    """A printed line without what is measured: numbers, hashes, verdicts, the width of columns."""
    line = re.sub(r"\b[0-9a-f]{10}\b", "HASH", line)
    for verdict in VERDICTS:
        line = line.replace(verdict, "VERDICT")
    line = re.sub(r"(?<![A-Za-z_])" + _NUMBER, "#", line)
    return " ".join(line.split())


def unlike(shown: tuple[str, ...], printed: str) -> list[str]:
    """Lines of a page that the program does not print, and printed lines that are unlike all of the page's.

    A line ``...`` stands for more lines like those shown, a line that ends with it for any ending. The order of lines
    may follow the numbers.
    """
    lines = [normalised(line) for line in printed.splitlines() if line.strip() and not line.startswith(PASSING)]
    wanted = [normalised(line) for line in shown if line.strip() and line.strip() not in ("...", "…")]
    patterns = [
        re.escape(line.removesuffix("...").removesuffix("…")) + (".*" if line.endswith(("...", "…")) else "")
        for line in wanted
    ]
    wrong = [
        f"not printed: {line}"
        for line, pattern in zip(wanted, patterns, strict=True)
        if not any(re.fullmatch(pattern, one) for one in lines)
    ]
    unshown = [one for one in lines if not any(re.fullmatch(each, one) for each in patterns)]
    return wrong + [f"not on the page: {line}" for line in unshown]
