"""``python -m jepa.import_config``: configuration files of the original code as a command of ours."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jepa import run
from jepa.config.arguments import prepare
from jepa.config.compose import check_closed, compose
from jepa.config.importing import Translation, translate
from jepa.config.keys import known_keys
from jepa.config.messages import explain
from jepa.config.original_files import read
from jepa.config.search_path import groups
from jepa.config.written import overrides, preset, shell_line, told
from jepa.errors import ConfigError, check_folder, printable, shown_path
from jepa.files import write_text_atomic
from jepa.flags import FlagParser
from jepa.terminal import forgive

_EPILOG = """\
examples:
  python -m jepa.import_config old.yaml                               # print the command
  python -m jepa.import_config base.yaml mine.yaml --values epochs=50 vicreg.sim_coeff=25
  python -m jepa.import_config old.yaml --run --add trainer=quick     # run it, shortened
  python -m jepa.import_config old.yaml --yaml myconf/mine/old.yaml   # write it as a preset of your own
docs/from_the_original.md lists every key.
"""


def main() -> None:
    """The command line."""
    forgive()
    sys.exit(command_line(sys.argv[1:]))


def command_line(words: Sequence[str]) -> int:
    """Answer one command line: print the command of ours, and with ``--run`` run it.

    Returns:
        The exit code: 0, 2 for files that cannot be imported, or what the run ends with.
    """
    try:
        arguments = _parser().parse_args(words)
    except SystemExit as end:  # argparse has said why, or has printed the help
        return int(end.code or 0)
    try:
        found = _imported(arguments)
    except (ConfigError, OSError) as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2
    return run.command_line(found) if arguments.run else 0


def _parser() -> FlagParser:
    parser = FlagParser(
        prog="python -m jepa.import_config",
        description="Print the command that does here what configuration files of the original code do there.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("files", nargs="*", type=Path, metavar="OLD.yaml", help="files of the original; later ones win")
    several: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
    add("--values", metavar="key=value", help="keys of the original, as in vicreg.sim_coeff=25; they win", **several)
    add("--add", metavar="key=value", help="overrides of ours, as for jepa.run; they win over all", **several)
    add("--ignore", metavar="KEY", help="keys or sections of the files to leave out", **several)
    add("--probe", choices=("least_squares", "adam"), default="least_squares", help="how probes are fitted")
    add("--yaml", type=Path, metavar="FILE", help="write FOLDER/GROUP/NAME.yaml, which jepa.run takes as +GROUP=NAME")
    add("--run", action="store_true", help="run the command")
    return parser


def _imported(arguments: argparse.Namespace) -> list[str]:
    """Read, translate, check, print and write; returns the command's overrides."""
    if not arguments.files and not arguments.values:
        raise ConfigError("no file is named: python -m jepa.import_config OLD.yaml")
    found = translate(read(arguments.files, arguments.values, ignored=arguments.ignore), probe=arguments.probe)
    choices, values = told(arguments.add, "--add")
    found.choices.update(choices)
    found.values.update(values)
    words = overrides(found.choices, found.values)
    _check(words)
    how = None
    if arguments.yaml is not None:
        how = _usage(arguments.yaml, arguments.files)
        text = preset(found.choices, found.values, f"Imported from the original: {how}")
        write_text_atomic(arguments.yaml, text)
    print(shell_line(words))
    for line in _remarks(found):
        print(line)
    if how is not None:
        print(f"\n{shown_path(arguments.yaml)} holds the same; run it with\n{how}")
    return words


def _check(words: Sequence[str]) -> None:
    """Refuse a command that would not compose, or that sets a key of the run itself to what is not allowed.

    Raises:
        ConfigError: names the key.
    """
    try:
        check_closed(compose(prepare(words), with_hydra=True))
    except Exception as error:
        explained = explain(error, known_keys(words), words)
        if explained is None:
            raise
        raise explained from error


def _usage(path: Path, files: Sequence[Path]) -> str:
    """The command that uses the yaml file at ``path``: its folder is a group, the folder above a ``--config-dir``.

    Raises:
        ConfigError: the path names no such group, or one of the files that are read.
    """
    folder, group = path.absolute().parent, path.absolute().parent.name
    if path.suffix != ".yaml" or not re.fullmatch(r"[A-Za-z]\w*", group) or not re.fullmatch(r"[\w.\-]+", path.stem):
        raise ConfigError(f"--yaml {shown_path(path)}: must be FOLDER/GROUP/NAME.yaml, as in myconf/mine/old.yaml")
    if group in {name.partition("/")[0] for name in groups()}:
        raise ConfigError(f"--yaml {shown_path(path)}: {group} is a group of this project; take another name")
    if path.exists() and any(file.samefile(path) for file in files):
        raise ConfigError(f"--yaml {shown_path(path)}: is one of the files that are read")
    check_folder("--yaml", folder)
    return shlex.join(["python", "-m", "jepa.run", "--config-dir", str(path.parent.parent), f"+{group}={path.stem}"])


def _remarks(found: Translation) -> Iterator[str]:
    """What the command does not say."""
    if found.left_out:
        yield "\nnot part of the command:"
        for reason, keys in found.left_out.items():
            yield f"  {', '.join(keys)}: {reason}"
    for note in found.notes:
        yield f"\n{note}"


if __name__ == "__main__":
    main()
