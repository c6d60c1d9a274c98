"""Run a command and print its wall time and peak resident memory as JSON.

A small process of its own: the memory that Linux reports for a child includes what its parent
held when it started it.
"""

import json
import os
import subprocess
import sys
import time


def main() -> None:
    """Run ``sys.argv[1:]``; fail as it fails."""
    before = time.perf_counter()
    process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - before
    if status:
        raise SystemExit(f"{sys.argv[1:]} failed")
    unit = 1 if sys.platform == "darwin" else 1024
    print(json.dumps({"seconds": seconds, "peak_bytes": usage.ru_maxrss * unit}))


if __name__ == "__main__":
    main()
