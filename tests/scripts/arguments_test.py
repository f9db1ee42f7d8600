"""Every script says in one sentence what is wrong with its arguments, before it does anything, and explains itself with --help."""

import os
import signal
import subprocess
import sys
import unittest
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
USAGE = (2, 64)  # argparse's, and ours

# Their arguments go to another program, after everything was built.
PASSED_ON = {"quickstart.sh": [], "test.sh": []}
WRONG = {
    "bench/choices.sh": [["many"], ["0"], ["3", "more"]],
    "bench/collectives.sh": [["two"], ["2", "-1"], ["2", "64", "0"], ["2", "64", "3", "4"]],
    "bench/cpu_peers.py": [["--steps"], ["--steps", "1"], ["--only", "nosuch"], ["--loss-on", "nosuch"], ["more"]],
    "bench/cpu_peers.sh": [["--steps", "one"], ["more"]],
    "bench/save_stall.py": [["--ranks", "0"], ["--steps", "two"], ["--every", "12"], ["--model", "/nosuch"], ["more"]],
    "bench/strategies.py": [[], ["nosuch"], ["time", "--rounds", "0"], ["memory", "--ranks", "1,x"]],
    "bench/strategies.sh": [[], ["nosuch"]],
    "bench/tokenizer.py": [[], ["tool"]],
    "bench/tokenizer.sh": [["--nosuch"], ["build", "more"]],
    "bundle.sh": [["--with"], ["--archive"], ["--archive", "file.zip"], ["--nosuch"], ["build", "out", "more"]],
    "check_includes.py": [["/nosuch"], ["--nosuch"], [".", "more"]],
    "generate_unicode_tables.py": [["more"], ["--nosuch"]],
    "gpu_check.sh": [["--output"], ["--only"], ["--nosuch"], ["more"]],
    "gpu_check/gpu_check.py": [[], ["--bin", ".", "--parity", ".", "--mpirun", ".", "--only", "nosuch"]],
    "long_tests.sh": [["more"]],
    "missing_packages.py": [[], ["/nosuch"]],
    "mpirun_test.sh": [[], ["2"], ["two", "true"]],
    "prepare_data.py": [["--output"], ["more"]],
    "prepare_smollm2.py": [["--output"], ["more"]],
    "published_runs.py": [["--check"], ["--chekc", "README.md"], ["/nosuch"], ["--check", "/nosuch"]],
    "sanitize.sh": [[], ["nosuch"]],
    "setup.sh": [["--test"], ["more"]],
    "what_fits.py": [["--check"], ["--chekc", "README.md"], ["/nosuch"], ["--check", "/nosuch"]],
    **PASSED_ON,
}
# What only other scripts read or start.
PARTS = {"bench/peer_rank.py", "common.sh", "package_files.py", "plan_tables.py", "gpu_check/cards.py",
         "gpu_check/description.py", "gpu_check/models.py", "gpu_check/report.py"}


def run(script, arguments):
    """Exit code and output of the script, all of whose processes are ended if it goes on for long."""
    command = [sys.executable] if script.endswith(".py") else ["bash"]
    process = subprocess.Popen([*command, SCRIPTS / script, *arguments], stdin=subprocess.DEVNULL, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        return process.communicate(timeout=40)[0], process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[0], None


class ArgumentsTest(unittest.TestCase):
    def test_every_script_is_here(self):
        there = {str(path.relative_to(SCRIPTS)) for path in SCRIPTS.rglob("*") if path.suffix in (".py", ".sh")}
        self.assertEqual(there, PARTS | set(WRONG))

    def test_wrong_arguments(self):
        for script, cases in WRONG.items():
            for arguments in cases:
                with self.subTest(script=script, arguments=arguments):
                    said, code = run(script, arguments)
                    self.assertIn(code, USAGE, said)
                    self.assertNotIn("Traceback", said)
                    self.assertNotRegex(said, r"\.sh: line \d+:")
                    self.assertRegex(said.splitlines()[-1], r"\w+\.(sh|py).*: .*\w|^usage: ", said)

    def test_help(self):
        for script in WRONG:
            with self.subTest(script=script):
                said, code = run(script, ["--help"])
                self.assertEqual(code, 64 if script == "mpirun_test.sh" else 0, said)
                self.assertIn(Path(script).stem, said)
                self.assertNotIn("shellcheck", said)


if __name__ == "__main__":
    unittest.main()
