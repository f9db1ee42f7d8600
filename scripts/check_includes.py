"""Checks that includes point one way: the rooms of the house stand on each other, and no two on one another.

Prints every include that a room may not make and a circle of folders, and ends with 1 if there is either.
"""

import argparse
import graphlib
import pathlib
import re
import sys

GROUND = ["base/"]
TRAINER = GROUND + ["sharding/"]
LAUNCHER = TRAINER + ["checkpoint/", "trainer/"]

# What the files of a room may include besides their own. Tests and scripts may include everything.
MAY_INCLUDE = {
    "base/": [],
    "sharding/": GROUND,
    "checkpoint/": GROUND + ["sharding/"],
    "trainer/simd/": TRAINER,
    "trainer/ops/": TRAINER + ["trainer/simd/"],
    "trainer/optim/": TRAINER + ["trainer/simd/", "trainer/ops/"],
    "trainer/models/": TRAINER + ["trainer/simd/", "trainer/ops/", "trainer/optim/"],
    "trainer/states/": TRAINER + ["trainer/simd/", "trainer/ops/", "trainer/optim/", "trainer/models/"],
    "trainer/engine/": TRAINER + ["trainer/simd/", "trainer/ops/", "trainer/optim/", "trainer/models/",
                                  "trainer/states/"],
    "trainer/data/": GROUND + ["sharding/agree.h"],
    "trainer/": TRAINER,
    "launcher/options/": LAUNCHER,
    "launcher/planner/": LAUNCHER + ["launcher/options/"],
    "launcher/report/": LAUNCHER + ["launcher/options/", "launcher/planner/"],
    "launcher/plan/": LAUNCHER + ["launcher/options/", "launcher/planner/", "launcher/report/"],
    "launcher/job/": LAUNCHER + ["launcher/options/", "launcher/planner/", "launcher/report/"],
    "launcher/export/": LAUNCHER + ["launcher/options/", "launcher/report/", "launcher/job/"],
    "launcher/": LAUNCHER,
}


def room_of(path):
    """The innermost room of the table; none for a folder of launcher/ or trainer/ that the table does not name."""
    room = max((room for room in MAY_INCLUDE if path.startswith(room)), key=len, default=None)
    return None if room in ("launcher/", "trainer/") and path.count("/") > 1 else room


def includes_of(root):
    """Pairs of paths: a source file of the rooms, and what it includes."""
    for top in sorted({room.split("/")[0] for room in MAY_INCLUDE}):
        for file in sorted((root / top).rglob("*")):
            if file.suffix in (".h", ".cpp", ".cu"):
                for included in re.findall(r'^\s*#\s*include "([^"]+)"', file.read_text(), re.MULTILINE):
                    yield str(file.relative_to(root)), included


def is_allowed(file, included):
    room = room_of(file)
    return included.startswith((room, *MAY_INCLUDE[room]))


def problems_of(root):
    folders = {}
    for file, included in includes_of(root):
        if room_of(file) is None:
            yield f"{file}: is in no room that this script knows"
        elif not (root / included).exists():
            yield f"{file}: {included} does not exist"
        elif not is_allowed(file, included):
            yield f"{file}: may not include {included}"
        if (folder := str(pathlib.PurePath(file).parent)) != (other := str(pathlib.PurePath(included).parent)):
            folders.setdefault(folder, set()).add(other)
    try:
        graphlib.TopologicalSorter(folders).prepare()
    except graphlib.CycleError as error:
        yield "folders in a circle: " + " <- ".join(error.args[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("root", nargs="?", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[1],
                        help="the checkout (this one)")
    root = parser.parse_args().root
    if not (root / "base").is_dir():
        parser.error(f"{root} is no checkout: it has no folder base")
    problems = list(problems_of(root))
    print("\n".join(problems) or "all includes point one way")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
