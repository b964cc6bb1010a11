"""Every figure of docs/performance.md, one benchmark after another: print what each prints, as markdown.

    python benchmarks/all.py                    # more than an hour on two idle cores
    python benchmarks/all.py --quick            # the same tables, fewer rounds, shorter runs: a quarter of an hour
    python benchmarks/all.py --only startup probing

Each benchmark is a script of its own with options of its own. A failing one does not stop the others; the exit code
tells.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

# name: options of a whole measurement, options of a quick one
BENCHMARKS = {
    "startup": ([], ["--repeats", "3"]),
    "busy": (["--busy", "0", "2", "4", "8"], ["--repeats", "1"]),
    "step_times": ([], ["--repeats", "3", "--models", "vicreg", "simclr", "rssm", "--batch-sizes", "32"]),
    "packing": ([], ["--models", "vicreg", "--jobs", "2", "--repeats", "2"]),
    "scaling": ([], ["--repeats", "2"]),
    "probing": ([], ["--sequences", "2000", "--epochs", "6"]),
    "grid": ([], ["--steps", "120", "--launchers", "auto"]),
    "sweep_overhead": ([], ["--jobs", "40", "--repeats", "1"]),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), default=list(BENCHMARKS))
    options = parser.parse_args()
    failed = []
    for name in options.only:
        arguments = BENCHMARKS[name][options.quick]
        command = [sys.executable, str(Path(__file__).with_name(f"{name}.py")), *arguments]
        print(f"\n$ python benchmarks/{name}.py {' '.join(arguments)}".rstrip(), flush=True)
        if subprocess.run(command).returncode:
            failed.append(name)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
