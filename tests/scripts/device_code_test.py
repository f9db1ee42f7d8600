"""What nvcc made of the kernels: registers, spills, 16 bytes at once, no 64-bit divisions, and code for newer cards.
Nothing runs: it reads the objects that were built.

device_code_test.py FOLDERS OBJECT...

FOLDERS, separated by colons, are where cuobjdump and nvdisasm may be beside PATH. Exits with 77 where they are not.
"""

import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile

SKIPPED = 77
ARCHITECTURES = {"sm_80", "sm_90"}
# Cards newer than all of those compile this for themselves.
PTX = "sm_90"
# Of 65,536 for a multiprocessor: four blocks of 256 threads.
MOST_REGISTERS = 64

# Kernels that pass over whole matrices: every access to those is of 16 bytes, where they allow it.
WIDE = ("Relu<", "ReluBackward<", "SwigluForward<", "SwigluBackward<", "Rotate<", "PlaceColumns<", "RmsNormForward<",
        "RmsNormAgain<", "RmsNormBackward<", "LayerNormForward<", "LayerNormAgain<", "LayerNormBackward<",
        "SlabSums<", "adamw_kernel", "accumulate_kernel", "ordered_sum_kernel", "round_part_kernel")
# One division a block, or beside a softmax's row, costs nothing.
MAY_DIVIDE = ("AttentionSoftmax", "AddSlabs")


def find_tools(folders):
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(os.path.abspath, folders.split(":"))])
    cuobjdump = shutil.which("cuobjdump", path=path)
    if cuobjdump is None or shutil.which("nvdisasm", path=path) is None:
        print("skipped: no cuobjdump and nvdisasm of the CUDA toolkit here")
        sys.exit(SKIPPED)
    environment = dict(os.environ, PATH=path)

    def run(*arguments, folder=None):
        done = subprocess.run([cuobjdump, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"cuobjdump {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    return run


def demangle(names):
    names = sorted(names)
    done = subprocess.run(["c++filt", *names], capture_output=True, text=True, check=True)
    return dict(zip(names, (line.replace("autoglm::", "") for line in done.stdout.splitlines())))


def subroutines(cubin):
    """Names of a cubin's symbols, each with the section that it lies in."""
    data = cubin.read_bytes()
    offset, = struct.unpack_from("<Q", data, 40)
    entry, count, names = struct.unpack_from("<HHH", data, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, offset + i * entry) for i in range(count)]

    def text(table, at):
        start = sections[table][4] + at
        return data[start:data.index(b"\0", start)].decode()

    for kind, start, size, link in [(s[1], s[4], s[5], s[6]) for s in sections]:
        if kind != 2:  # SHT_SYMTAB
            continue
        for at in range(start, start + size, 24):
            name, _, _, section = struct.unpack_from("<IBBH", data, at)
            if 0 < section < count:
                yield text(link, name), text(names, sections[section][0])


def instructions(sass):
    """(architecture, mangled kernel, instruction) of a disassembly."""
    architecture = kernel = None
    for line in sass.splitlines():
        if found := re.search(r"arch = (\w+)", line):
            architecture = found[1]
        elif found := re.search(r"Function : (\S+)", line):
            kernel = found[1]
        elif found := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@\S+\s+)?([A-Z][\w.]*)", line):
            yield architecture, kernel, found[1]


class Checks:
    def __init__(self, cuobjdump):
        self.cuobjdump = cuobjdump
        self.problems = []
        self.seen = set()

    def expect(self, condition, problem):
        if not condition:
            self.problems.append(problem)

    def resources(self, code):
        usage = self.cuobjdump("-res-usage", code)
        found = re.findall(r"Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", usage)
        names = demangle({name for name, *_ in found})
        for name, registers, _, local in found:
            self.expect(int(registers) <= MOST_REGISTERS, f"{names[name]} takes {registers} registers")
            self.expect(int(local) == 0, f"{names[name]} takes {local} bytes of local memory")
        return names

    def divisions(self, code):
        with tempfile.TemporaryDirectory() as folder:
            self.cuobjdump("-xelf", "all", code, folder=folder)
            for cubin in sorted(pathlib.Path(folder).iterdir()):
                calls = [(name, section.removeprefix(".text.")) for name, section in subroutines(cubin)
                         if re.search(r"__cuda_sm\d+_(div|rem)_[su]64", name)]
                names = demangle({section for _, section in calls})
                for _, section in calls:
                    kernel = names[section]
                    self.expect(any(name in kernel for name in MAY_DIVIDE),
                                f"{cubin.name}: {kernel} calls a 64-bit division")

    def accesses(self, code, names):
        counts = {}
        for architecture, kernel, instruction in instructions(self.cuobjdump("-sass", code)):
            counts.setdefault((architecture, kernel), []).append(instruction)
        for (architecture, mangled), all_of_it in counts.items():
            kernel = f"{architecture}: {names[mangled]}"
            spills = sum(one.startswith(("STL", "LDL")) for one in all_of_it)
            self.expect(spills == 0, f"{kernel} reads or writes registers that were spilled, {spills} times")
            bytes_alone = sum(bool(re.match(r"(LDG|STG)\.E\.[US]8", one)) for one in all_of_it)
            self.expect(bytes_alone == 0, f"{kernel} reads or writes single bytes, {bytes_alone} times")
            for wide in WIDE:
                if wide not in kernel:
                    continue
                self.seen.add(wide)
                for access in ("LDG.E.128", "STG.E.128"):
                    self.expect(any(one.startswith(access) for one in all_of_it), f"{kernel} has no {access}")

    def object(self, code):
        elf, ptx = self.cuobjdump("-lelf", code), self.cuobjdump("-lptx", code)
        for architecture in ARCHITECTURES:
            self.expect(f".{architecture}.cubin" in elf, f"{code} has no code of {architecture}")
        self.expect(f".{PTX}.ptx" in ptx, f"{code} has no PTX of {PTX}: cards that are newer could not run it")
        names = self.resources(code)
        self.divisions(code)
        self.accesses(code, names)


def main():
    folders, *objects = sys.argv[1:]
    checks = Checks(find_tools(folders))
    codes = [os.path.abspath(one) for one in objects if one.endswith(".cu.o")]
    for code in codes:
        checks.object(code)
    checks.expect(len(codes) >= 3, f"only {len(codes)} objects with device code")
    for wide in WIDE:
        checks.expect(wide in checks.seen, f"there is no kernel {wide}: this test looks for it by a name that is gone")
    for problem in checks.problems:
        print(problem)
    sys.exit(1 if checks.problems else 0)


main()
