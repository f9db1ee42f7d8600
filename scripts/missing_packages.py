#!/usr/bin/env python3
"""Prints the pinned packages of requirements files that the running Python does not have, one a line.

    missing_packages.py scripts/requirements.txt...

Understands what the files here use: NAME==VERSION, a marker that compares python_version, and -r FILE.
"""

import argparse
import importlib.metadata
import operator
import re
import sys
from pathlib import Path

LINE = re.compile(r'(?P<name>[\w.-]+)==(?P<version>[\w.]+)(?:; python_version (?P<compare>>=|<) "(?P<than>3\.\d+)")?')
COMPARE = {">=": operator.ge, "<": operator.lt}


def pins(path):
    """Yields (name, version) of every package that `path` wants for the running Python."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("-r "):
            yield from pins(path.parent / line[len("-r "):])
            continue
        match = LINE.fullmatch(line)
        if not match:
            sys.exit(f"{path}: cannot read the line: {line}")
        if match["compare"]:
            than = tuple(int(part) for part in match["than"].split("."))
            if not COMPARE[match["compare"]](sys.version_info[:2], than):
                continue
        yield match["name"], match["version"]


def is_installed(name, version):
    """Whether the package is whole: pip writes RECORD last, so an interrupted installation has none."""
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return distribution.version == version and distribution.read_text("RECORD") is not None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a requirements file")
    files = parser.parse_args().files
    for path in files:
        if not path.is_file():
            parser.error(f"there is no file {path}")
    wanted = dict.fromkeys(pin for path in files for pin in pins(path))
    for name, version in wanted:
        if not is_installed(name, version):
            print(f"{name}=={version}")


if __name__ == "__main__":
    main()
