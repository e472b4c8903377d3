"""Install a wheel into an empty environment and run twelve commands: `python tests/wheel_smoke.py WHEEL`.

The checkout is not on the path, so the result is that of a user's `pip install`. Prints a line for each
command and exits with status 1 if one fails.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

EXTRAS = "demo,search,embeddings"
COMMANDS = [
    "--version",
    "demo --out demo",
    "models list",
    "models show default",
    "models verify default",
    'classify album/1.png "a red square" "a blue square" --json',
    "index album --catalog catalog",
    'search "a red square" --catalog catalog --all --html sheet.html',
    "duplicates --catalog catalog --html copies.html",
    "tag --catalog catalog --label red",
    "embed album --to vectors",
    "audit counting --each 2 --report report",
]


def main(wheel: Path) -> int:
    """Install, run, report; return the exit status."""
    home = Path(tempfile.mkdtemp(prefix="wheel"))
    try:
        venv.create(home / "venv", with_pip=True)
        bin_ = home / "venv" / "bin"
        install = [bin_ / "pip", "install", "--quiet", f"{wheel.resolve()}[{EXTRAS}]"]
        subprocess.run(install, check=True, cwd=home)
        subprocess.run([bin_ / "python", "-c", PAINT], check=True, cwd=home)
        failed = [command for command in COMMANDS if not works(bin_ / "diptych", command, home)]
    finally:
        shutil.rmtree(home)
    return int(bool(failed))


PAINT = """
from pathlib import Path
from PIL import Image
Path("album").mkdir()
for number, colour in enumerate(("blue", "red", "green")):
    Image.new("RGB", (64, 64), colour).save(f"album/{number}.png")
"""


def works(program: Path, command: str, home: Path) -> bool:
    """Run one command; return whether it succeeded."""
    done = subprocess.run(f"{program} {command}", shell=True, cwd=home, capture_output=True, text=True)
    print("ok    " if done.returncode == 0 else "FAILED", command)
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n")
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
