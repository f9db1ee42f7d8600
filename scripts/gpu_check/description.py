"""What is known of a machine: processor, memory, devices, versions, settings."""

import importlib.metadata
import importlib.util
import os
import platform
import sys

import report


def describe_machine(machine):
    found = {"processor": f"{os.cpu_count()} cores, {platform.machine()}",
             "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"}
    version = report.run([machine.bin / "autoglm-train", "--version"], 60)
    found["program"] = version.output.strip() if version.code == 0 else version.last_lines()
    if not machine.cpu:
        try:
            query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
            found["devices"] = report.run(query, 30).output.strip()
            for more in (["-q"], ["topo", "-m"]):  # modes, MIG, links: for the logs
                report.run(["nvidia-smi", *more], 30)
        except OSError as error:
            found["devices"] = f"nvidia-smi cannot be run ({error})"
        found["usable cards"] = str(machine.cards)
    found.update(describe_software())
    return found


def describe_software():
    found = {"system": f"{platform.system()} {platform.release()}", "python": platform.python_version()}
    for package in ("torch", "transformers", "nvidia-nccl-cu13", "nvidia-cublas", "nvidia-cuda-runtime"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pass
    settings = {name: value for name, value in sorted(os.environ.items())
                if name.startswith(("NCCL_", "CUDA_", "OMP_", "OMPI_MCA_", "AUTOGLM_"))}
    found["environment"] = " ".join(f"{name}={value}" for name, value in settings.items()) or "nothing that matters"
    return found


def transformers_problem():
    for package in ("torch", "numpy", "transformers"):
        if importlib.util.find_spec(package) is None:
            return f"this Python ({sys.executable}) has no {package}"
    version = report.run([sys.executable, "-c", "import transformers as t; print(t.__version__)"], 120)
    if version.code != 0:
        return "transformers cannot be imported: " + version.last_lines(1)
    numbers = tuple(int(number) for number in version.output.strip().splitlines()[-1].split(".")[:2])
    return f"transformers {version.output.strip()} is older than 4.56" if numbers < (4, 56) else None
