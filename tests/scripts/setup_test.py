"""setup.sh on machines that are not this one: what it asks of apt-get, sudo and pip, and what it says."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
TOOLS = ("awk basename bash cat cp cut date dirname env flock grep head id mkdir mktemp mv nproc paste rm sed sleep tail "
         "test timeout touch tr wc").split()

# Stands in for a program: writes its own name and arguments into the log, then does what its body says.
STUB = """#!/bin/bash
echo "$(basename "$0") $*" >>"$STUB_LOG"
{body}
"""
# Makes a virtual environment whose python has every package that its folder lists.
PYTHON = """
case "$*" in
  "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
  *missing_packages.py*) cat "$STUB_MISSING" 2>/dev/null || true ;;
  "-m pip install"*)
    [ ! -s "$STUB_FAILURES" ] || { tail -n +2 "$STUB_FAILURES" >"$STUB_FAILURES.n"
      mv "$STUB_FAILURES.n" "$STUB_FAILURES"; echo "no route to the index"; exit 1; }
    : >"$STUB_MISSING" ;;
esac
"""


class Machine(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        shutil.copytree(SCRIPTS, self.root / "project/scripts", ignore=shutil.ignore_patterns("__pycache__"))
        self.bin = self.root / "bin"
        self.bin.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        self.log = self.root / "log"
        self.failures = self.root / "failures"
        self.missing = self.root / "missing"
        self.missing.write_text("torch==2.11.0\n")
        self.stub("dpkg-query", "echo not-installed")
        self.stub("apt-get")
        self.stub("sleep")
        self.stub("ldconfig")
        self.user(0)

    def stub(self, name, body=""):
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(STUB.format(body=body))
        path.chmod(0o755)

    def user(self, number):
        self.stub("id", f"echo {number}")

    def everything_installed(self):
        for program in ("g++", "cmake", "ninja", "ccache", "mpirun"):
            self.stub(program)
        self.stub("python3", PYTHON)
        self.stub("dpkg-query", "printf installed")

    def run_setup(self, *arguments, **environment):
        result = subprocess.run(
            ["bash", self.root / "project/scripts/setup.sh", *arguments], stdin=subprocess.DEVNULL, timeout=120,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={"PATH": str(self.bin), "STUB_LOG": str(self.log), "STUB_FAILURES": str(self.failures),
                 "STUB_MISSING": str(self.missing), "CUDA_HOME": str(self.root / "cuda"), "AUTOGLM_DRIVER_FILES": "",
                 **environment})
        self.output = result.stdout
        return result.returncode

    def calls(self, program):
        if not self.log.exists():
            return []
        return [line for line in self.log.read_text().splitlines() if line.split(" ")[0] == program]


class SetupTest(Machine):
    def test_root_installs_what_is_missing_and_nothing_else(self):
        self.everything_installed()
        (self.bin / "cmake").unlink()
        self.stub("dpkg-query", '[ "${@: -1}" = libonig-dev ] || printf installed')
        self.assertEqual(self.run_setup(), 0, self.output)
        calls = self.calls("apt-get")
        self.assertEqual(len(calls), 2, calls)
        self.assertTrue(calls[0].endswith(" update"), calls)
        self.assertTrue(calls[1].endswith(" install --no-install-recommends cmake libonig-dev"), calls)
        self.assertEqual(self.calls("sudo"), [])

    def test_second_run_calls_neither_apt_nor_pip(self):
        self.everything_installed()
        self.assertEqual(self.run_setup(), 0, self.output)
        self.assertEqual(len([call for call in self.calls("python") if "pip install" in call]), 1)
        self.log.unlink()
        self.assertEqual(self.run_setup(), 0, self.output)
        self.assertEqual(self.calls("apt-get"), [])
        self.assertEqual([call for call in self.calls("python") if "pip install" in call], [])

    def test_without_root_and_sudo_it_says_what_to_ask_for(self):
        self.everything_installed()
        (self.bin / "ninja").unlink()
        self.user(1000)
        self.assertEqual(self.run_setup(), 1)
        self.assertIn("apt-get install --no-install-recommends ninja-build", self.output)
        self.assertEqual(self.calls("apt-get"), [])

    def test_sudo_that_would_ask_for_a_password_without_a_terminal(self):
        self.everything_installed()
        (self.bin / "ninja").unlink()
        self.user(1000)
        self.stub("sudo", "exit 1")
        self.assertEqual(self.run_setup(), 1)
        self.assertIn("only root may install", self.output)
        self.assertEqual(self.calls("apt-get"), [])

    def test_sudo_is_used_only_for_installing(self):
        self.everything_installed()
        (self.bin / "ninja").unlink()
        self.user(1000)
        self.stub("sudo", 'case "$1" in -*) ;; *) "$@" ;; esac')
        self.assertEqual(self.run_setup(), 0, self.output)
        self.assertEqual(len(self.calls("apt-get")), 2)
        installing = [call for call in self.calls("sudo") if not call.startswith("sudo -")]
        self.assertEqual(len(installing), 2)
        self.assertTrue(all("apt-get" in call for call in installing), installing)

    def test_sudo_is_not_called_when_nothing_is_missing(self):
        self.everything_installed()
        self.user(1000)
        self.stub("sudo", "exit 1")
        self.assertEqual(self.run_setup(), 0, self.output)
        self.assertEqual(self.calls("sudo"), [])

    def test_check_changes_nothing(self):
        self.everything_installed()
        (self.bin / "g++").unlink()
        self.assertEqual(self.run_setup("--check"), 1)
        self.assertIn("apt-get install --no-install-recommends g++", self.output)
        self.assertIn("requirements.txt", self.output)
        self.assertEqual(self.calls("apt-get"), [])
        self.assertFalse((self.root / "project/.venv").exists())

    def test_a_failed_download_is_tried_again(self):
        self.everything_installed()
        self.failures.write_text("1\n2\n")
        self.assertEqual(self.run_setup(), 0, self.output)
        self.assertIn("trying again", self.output)

    def test_a_lasting_failure_is_shown(self):
        self.everything_installed()
        self.failures.write_text("1\n2\n3\n4\n")
        self.assertEqual(self.run_setup(), 1)
        self.assertIn("no route to the index", self.output)
        self.assertIn("could not be installed", self.output)

    def test_a_failure_beside_apt_is_not_lost(self):
        self.everything_installed()
        (self.bin / "cmake").unlink()
        self.failures.write_text("1\n2\n3\n4\n")
        self.assertEqual(self.run_setup(), 1)
        self.assertIn("could not be installed", self.output)

    def test_a_named_libtorch_spares_the_download(self):
        self.everything_installed()
        libtorch = self.root / "libtorch"
        (libtorch / "include/ATen/core").mkdir(parents=True)
        (libtorch / "include/ATen/core/Tensor.h").touch()
        self.assertEqual(self.run_setup(CMAKE_PREFIX_PATH=f"/nowhere:{libtorch}"), 0, self.output)
        self.assertIn("requirements-assets.txt", self.output)

    def nvcc(self, release):
        return f'echo "Cuda compilation tools, release {release}, V{release}.1"'

    def driver(self):
        self.stub("ldconfig", 'printf "\\tlibcuda.so.1 (libc6,x86-64) => /lib/libcuda.so.1\\n"')

    def test_device_code_is_built_when_nvcc_is_there(self):
        self.everything_installed()
        self.stub("nvcc", self.nvcc("13.0"))
        self.assertEqual(self.run_setup(), 0, self.output)
        self.assertIn("requirements-cuda.txt into", self.output)
        self.assertIn(f"built with {self.bin}/nvcc", self.output)
        self.missing.write_text("torch==2.11.0\n")
        self.assertEqual(self.run_setup(AUTOGLM_CUDA="OFF"), 0, self.output)
        self.assertIn("scripts/requirements.txt into", self.output)

    def test_a_driver_without_a_toolkit_brings_nvcc(self):
        self.everything_installed()
        self.driver()
        self.assertEqual(self.run_setup(), 0, self.output)
        self.assertIn("requirements-cuda.txt requirements-nvcc.txt into", self.output)
        self.assertIn("built with the nvcc of PyPI", self.output)
        wanted = [call for call in self.calls("python") if "missing_packages.py" in call]
        self.assertTrue(wanted and all("/requirements-nvcc.txt" in call for call in wanted), wanted)

    def test_a_card_is_known_by_its_driver_whatever_the_path(self):
        self.everything_installed()
        version = self.root / "version"
        self.assertEqual(self.run_setup(AUTOGLM_DRIVER_FILES=str(version)), 0, self.output)
        self.assertNotIn("nvcc of PyPI", self.output)
        version.touch()
        self.assertEqual(self.run_setup(AUTOGLM_DRIVER_FILES=str(version)), 0, self.output)
        self.assertIn("nvcc of PyPI", self.output)

    def test_without_driver_and_nvcc_nothing_of_cuda_is_fetched(self):
        self.everything_installed()
        self.assertEqual(self.run_setup(), 0, self.output)
        self.assertIn("scripts/requirements.txt into", self.output)
        self.assertNotIn("requirements-nvcc.txt", self.output)
        self.assertIn("neither an NVIDIA driver nor an nvcc", self.output)
        self.assertEqual(self.run_setup(AUTOGLM_CUDA="ON"), 0, self.output)
        self.assertIn("built with the nvcc of PyPI", self.output)

    def test_an_nvcc_of_another_cuda_is_not_taken(self):
        self.everything_installed()
        for release in ("11.8", "12.9"):
            self.stub("nvcc", self.nvcc(release))
            self.driver()
            self.assertEqual(self.run_setup(), 0, self.output)
            self.assertIn(f"is of CUDA {release[:2]}, but LibTorch needs device code by CUDA 13: not taken", self.output)
            self.assertIn("built with the nvcc of PyPI", self.output)
            self.stub("ldconfig")
            self.assertEqual(self.run_setup(), 0, self.output)
            self.assertIn("device code will not be built", self.output)

    def test_a_toolkit_that_is_not_on_the_path_spares_the_download(self):
        self.everything_installed()
        self.driver()
        toolkit = self.root / "cuda/bin/nvcc"
        toolkit.parent.mkdir(parents=True)
        toolkit.write_text("#!/bin/bash\n" + self.nvcc("13.1"))
        toolkit.chmod(0o755)
        self.assertEqual(self.run_setup(), 0, self.output)
        self.assertIn(f"built with {toolkit}", self.output)

    def test_a_driver_that_is_too_old_is_told(self):
        self.everything_installed()
        for version, told in (("570.86.15", True), ("580.65.06", False), ("", False)):
            self.stub("nvidia-smi", f"echo {version}")
            self.assertEqual(self.run_setup(), 0, self.output)
            self.assertIn("nvcc of PyPI", self.output)
            sentence = f"the NVIDIA driver is {version}, but CUDA 13 needs 580 or newer"
            self.assertEqual(sentence in self.output, told, self.output)

    def test_an_unknown_option(self):
        self.assertEqual(self.run_setup("--test"), 64)
        self.assertIn("unknown option --test", self.output)


class CountCardsTest(Machine):
    """How many ranks the quickstart starts on GPUs."""

    def count(self, listed, **environment):
        self.stub("nvidia-smi", f"printf '{listed}'")
        result = subprocess.run(["bash", "-c", f". {self.root}/project/scripts/common.sh; count_cards"], timeout=60,
                                stdout=subprocess.PIPE, text=True, check=True,
                                env={"PATH": str(self.bin), "STUB_LOG": str(self.log), **environment})
        return int(result.stdout)

    def test_cards_are_counted_as_a_job_sees_them(self):
        three = "".join(f"GPU {i}: A card (UUID: GPU-{i})\\n" for i in range(3))
        self.assertEqual(self.count(three), 3)
        self.assertEqual(self.count(""), 0)
        self.assertEqual(self.count("No devices were found\\n"), 0)
        for visible, number in (("0", 1), ("2,0", 2), ("GPU-1", 1), ("", 0), ("-1", 0), ("1,-1,2", 1), ("0,1,2,3,4", 3)):
            self.assertEqual(self.count(three, CUDA_VISIBLE_DEVICES=visible), number, visible)

    def test_a_divided_card_takes_one_rank(self):
        self.assertEqual(self.count("GPU 0: A card (UUID: a)\\n  MIG 3g.40gb Device 0: (UUID: b)\\n"
                                    "  MIG 3g.40gb Device 1: (UUID: c)\\nGPU 1: A card (UUID: d)\\n"), 1)


class MissingPackagesTest(unittest.TestCase):
    def missing(self, text):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "requirements.txt"
            path.write_text(text)
            command = [sys.executable, SCRIPTS / "missing_packages.py", path]
            return subprocess.run(command, capture_output=True, text=True, timeout=120)

    def test_versions_markers_and_unreadable_lines(self):
        import numpy
        self.assertEqual(self.missing(f"# a comment\nnumpy=={numpy.__version__}\n").stdout, "")
        self.assertEqual(self.missing("numpy==0.0.1\nno-such-package==1.0\n").stdout,
                         "numpy==0.0.1\nno-such-package==1.0\n")
        self.assertEqual(self.missing('no-such-package==1.0; python_version < "3.9"\n').stdout, "")
        self.assertEqual(self.missing('no-such-package==1.0; python_version >= "3.9"\n').stdout,
                         "no-such-package==1.0\n")
        self.assertNotEqual(self.missing("numpy>=1.0\n").returncode, 0)

    def test_the_test_environment_is_complete(self):
        self.assertEqual(self.missing((SCRIPTS / "requirements-assets.txt").read_text()).stdout, "")


if __name__ == "__main__":
    os.umask(0o022)
    unittest.main()
