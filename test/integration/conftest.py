"""What several modules of integration tests share because it takes long to make."""

from __future__ import annotations

import shutil

import pytest

from test.integration.environment import Environment, balance_source
from test.integration.harness import ROOT


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Balance and the example package, installed into a fresh virtual environment."""
    folder = tmp_path_factory.mktemp("installed")
    made = Environment(folder / "venv")
    example = folder / "acme_balance"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    shutil.copytree(ROOT / "examples" / "acme_balance", example, ignore=ignored)
    made.install(balance_source(folder), example)
    return made
