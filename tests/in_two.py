"""``make test``: the suite in two processes with one thread each, which takes two cores little more than half of the time.

Each takes the next file of tests that the other has not taken (tests/conftest.py). ``pytest`` alone runs the same tests one after another.
"""

import os
import subprocess
import sys
import tempfile
import time


def main(arguments: list[str]) -> int:
    """Run pytest twice with ``arguments``; print the first's output as it comes and then the second's. Returns the exit code."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as shared, tempfile.TemporaryFile("w+") as said:
        environment = os.environ | {"HIFITSE_TESTS_SHARED": shared, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        command = [sys.executable, "-m", "pytest", "-q", *arguments]
        with subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.STDOUT) as other:
            codes = [subprocess.run(command, env=environment).returncode, other.wait()]
        said.seek(0)
        sys.stdout.write(said.read())
    print(f"two processes, {time.monotonic() - started:.0f} s", flush=True)
    return max(codes, key=abs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
