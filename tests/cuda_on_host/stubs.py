"""Writes refusing definitions of all functions that libraries import from another one.

stubs.py RESULT STATUS VERSION|PREFIX LIBRARY...

The definitions are weak: those that are emulated take their places. A function is imported from the other library if
its symbol carries VERSION (lib*.so.N), or begins with PREFIX. STATUS is what a refused call returns.
"""

import pathlib
import subprocess
import sys

HEAD = """// Made by stubs.py.
extern "C" int cuda_on_host_refuse(const char*);
#define REFUSE(name)                                  \\
  extern "C" __attribute__((weak)) int name() {       \\
    cuda_on_host_refuse(#name);                       \\
    return STATUS;                                    \\
  }
"""


def imported(library, origin):
    listing = subprocess.run(["nm", "--dynamic", "--undefined-only", library], check=True, capture_output=True,
                             text=True).stdout
    for symbol in (line.split()[-1] for line in listing.splitlines() if line.strip()):
        name, _, version = symbol.partition("@")
        if version.lstrip("@") == origin if origin.startswith("lib") else name.startswith(origin):
            yield name


def main():
    result, status, origin, *libraries = sys.argv[1:]
    names = sorted({name for library in libraries for name in imported(library, origin)})
    if not names:
        sys.exit(f"nothing is imported from {origin}")
    text = HEAD.replace("STATUS", status) + "".join(f"REFUSE({name})\n" for name in names)
    pathlib.Path(result).write_text(text)


if __name__ == "__main__":
    main()
