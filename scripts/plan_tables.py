"""The arguments of scripts that print a table of what autoglm-plan says, or look whether a document holds it."""

import argparse
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[1]


def parse_arguments(description):
    """The program to ask, and the text of the document, or None where the table is to be printed."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("program", nargs="?", type=pathlib.Path, default=ROOT / "build/bin/autoglm-plan",
                        help="autoglm-plan (that of build/)")
    parser.add_argument("--check", type=pathlib.Path, metavar="FILE", help="end with 1 unless this file holds the table")
    arguments = parser.parse_args()
    for path in (arguments.program, arguments.check):
        if path and not path.is_file():
            parser.error(f"there is no file {path}")
    return str(arguments.program.resolve()), arguments.check and arguments.check.read_text(encoding="utf-8")
