"""A process that opens a data directory and retrieves from every subject in it.

Prints as JSON how long the first retrieval of each subject took, and its resident memory.
"""

import json
import resource
import sys
import time
from pathlib import Path

from holdfast import Holdfast


def main(data: str, prompt: str) -> None:
    """Retrieve once from every subject."""
    seconds: list[float] = []
    with Holdfast.open(data) as holdfast:
        holdfast.retrieve("nobody", prompt, record=False)  # loads the model
        for subject in holdfast.subjects():
            before = time.perf_counter()
            holdfast.retrieve(subject, prompt, record=False)
            seconds.append(time.perf_counter() - before)
        peak, resident = _memory()
    print(json.dumps({"seconds": seconds, "peak_bytes": peak, "resident_bytes": resident}))


def _memory() -> tuple[int, int | None]:
    """Give peak and present resident memory in bytes.

    On Linux from /proc: what ``getrusage`` calls the peak includes what the process that
    started this one held.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024, int(lines["VmRSS"].split()[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, None


if __name__ == "__main__":
    main(*sys.argv[1:])
