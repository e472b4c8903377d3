"""Start-up time: `import diptych` and `diptych --help` in fresh processes.

    python benchmarks/startup.py

Aims: import under 0.15 s over the bare interpreter, help under 0.4 s in all. Median of nine runs each, after
one that warms the disk cache.
"""

from __future__ import annotations

import subprocess
import sys

from common import machine, seconds

BARE = ["-c", "pass"]
IMPORT = ["-c", "import diptych"]
HELP = ["-c", "from diptych.cli.main import main; main()", "--help"]


def start(arguments: list[str]) -> float:
    """Median wall-clock time of a fresh interpreter, in seconds."""
    command = [sys.executable, *arguments]
    return seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL), repeat=9)


def main() -> None:
    """Measure the three and print them, each beside its aim."""
    print(machine())
    bare = start(BARE)
    print(f"python alone      {bare:6.3f} s")
    print(f"import diptych    {start(IMPORT) - bare:6.3f} s over that   (aim: under 0.15)")
    print(f"diptych --help    {start(HELP):6.3f} s in all      (aim: under 0.40)")


if __name__ == "__main__":
    main()
