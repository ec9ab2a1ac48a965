"""doc/extending.md, followed by the letter: every block is written or run, in order, in an empty folder.

A block whose first line is ``# name`` is that file. A block of ``sh`` has commands behind ``$``, and what they print;
``...`` stands for anything.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

from test.integration.environment import Environment
from test.integration.harness import PATIENCE, ROOT, accepts, free_port, wait_for

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
_FILES = ("python", "yaml", "ini", "toml")


class Reader:
    """Somebody who does what the page says."""

    def __init__(self, folder: Path, environment: Environment) -> None:
        self.folder = folder
        self.ports = {port: str(free_port()) for port in ("8080", "9001", "9002")}
        self.variables = {**os.environ, "PATH": f"{environment.bin}:{os.environ['PATH']}"}
        self.variables.pop("PYTHONPATH", None)
        self.servers: list[subprocess.Popen[bytes]] = []

    def do(self, kind: str, text: str) -> None:
        for port, free in self.ports.items():
            text = text.replace(port, free)
        if kind in _FILES:
            name, _, _ = text.removeprefix("# ").partition("\n")
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif kind == "sh":
            for command, expected in _commands(text):
                self.run(command, expected)
        else:
            assert kind == "text", f"what is a block of {kind}?"

    def run(self, command: str, expected: str) -> None:
        words = shlex.split(command)
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            self.variables[name] = value
        elif words[0] == "unset":
            self.variables.pop(words[1], None)
        elif words[-1] == "&":
            self.start(words[:-1])
        elif words[0] == "kill":
            self.stop()
        else:
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=self.folder, env=self.variables, capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            assert _fits(expected, done.stdout + done.stderr), (
                f"$ {command}\n{done.stdout}{done.stderr}\nnot\n{expected}"
            )

    def start(self, words: list[str]) -> None:
        log = (self.folder / "server.log").open("wb")
        server = subprocess.Popen(words, cwd=self.folder, env=self.variables, stdout=log, stderr=log)
        self.servers.append(server)
        port = int(self.ports["8080"])
        wait_for(lambda: server.poll() is not None or accepts(port), "Balance to listen")
        assert server.poll() is None, (self.folder / "server.log").read_text()

    def stop(self) -> None:
        while self.servers:
            server = self.servers.pop()
            server.terminate()
            assert server.wait(PATIENCE) == 0, (self.folder / "server.log").read_text()


def _commands(text: str) -> Iterator[tuple[str, str]]:
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        command, _, expected = part.partition("\n")
        yield command, expected


def _fits(expected: str, output: str) -> bool:
    """Whether the output is what the page says; runs of blanks do not matter."""
    wanted = " ".join(expected.split())
    pattern = ".*".join(re.escape(part) for part in wanted.split("..."))
    return re.fullmatch(pattern.replace(r"\ .*", ".*").replace(r".*\ ", ".*"), " ".join(output.split())) is not None


def test_the_page(environment: Environment, tmp_path: Path) -> None:
    page = (ROOT / "doc" / "extending.md").read_text()
    blocks = _BLOCK.findall(page)
    assert len(blocks) > 20
    assert page.count("```") == 2 * len(blocks)
    reader = Reader(tmp_path, environment)
    try:
        for kind, text in blocks:
            reader.do(kind, text)
    finally:
        for server in reader.servers:
            server.kill()


def test_what_fits() -> None:
    assert _fits("a\n", "a\n")
    assert _fits("a\n...\nb ... c\n", "a\nx\ny\nb  1  c\n")
    assert not _fits("a\n", "a\nb\n")
    assert not _fits("a ... c\n", "a b\n")
