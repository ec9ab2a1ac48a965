"""A fresh virtual environment with Balance, and whatever else is installed into it.

Rule of this file: what is tested is built and installed as anybody would install it. What that needs from PyPI is taken
from the environment that runs the tests (one line in a .pth file): so it takes seconds, and no network.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from test.integration.harness import ROOT

RUN_TWISTD = "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"
_LIMIT = 120.0


class Environment:
    """A virtual environment with Balance and the package."""

    def __init__(self, folder: Path) -> None:
        self.python = folder / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        site = Path(self.run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
        (site / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
        self.bin = folder / "bin"
        options = "--no-deps --no-build-isolation --no-index --disable-pip-version-check --quiet"
        self._script("pip", f'exec {sys.executable} -m pip --python {self.python} "$@" {options}')
        self._script("twistd", f'exec {self.python} -c "{RUN_TWISTD}" "$@"')

    def _script(self, name: str, line: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)

    def install(self, *sources: Path) -> None:
        """From source, built as pip builds it."""
        done = subprocess.run(
            [str(self.bin / "pip"), "install", *map(str, sources)], capture_output=True, text=True, timeout=_LIMIT
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def run(self, *arguments: str, status: int = 0) -> str:
        """Run its Python, somewhere where nothing can be imported by accident."""
        done = subprocess.run(
            [str(self.python), "-P", *arguments], capture_output=True, text=True, timeout=_LIMIT, cwd=self.python.parent
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr


def balance_source(folder: Path) -> Path:
    """A copy of what Balance is built from: building leaves things behind."""
    source = folder / "balance"
    source.mkdir()
    for name in ("balance", "twisted"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    return source
