"""Every example in the documents is run, and prints what the document says it prints.

    ```python      is executed; the blocks of a document share their names
    ```console     each line after "$ balance" is run; what follows is its output, "..." standing for any lines, or for
                   the rest of one

A comment before a block says more: ``<!-- file: NAME -->`` writes it to a file, ``<!-- same as: PATH -->`` says that it is a
file of the repository. To write outputs anew: ``python -m test.unit.test_documents``.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from twisted.trial.unittest import SynchronousTestCase

from balance.cli import main

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("explain.md", "simulate.md", "embedding.md", "testing.md")
HINT = "If that is what it should print now: python -m test.unit.test_documents"
_BLOCK = re.compile(r"(?:<!-- (file|same as): (\S+) -->\n)?```(\w+)\n(.*?)```\n", re.DOTALL)


class Block(NamedTuple):
    """A block of a document; ``what`` and ``name`` are of the comment before it, or empty."""

    what: str
    name: str
    kind: str
    text: str
    line: int


def blocks(text: str) -> Iterator[Block]:
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start(4)) + 1
        yield Block(match[1] or "", match[2] or "", match[3], match[4], line)


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Commands of a console block, and what each prints."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def run(command: str) -> str:
    name, *arguments = shlex.split(command)
    assert name == "balance", command
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        main(arguments)
    return out.getvalue()


def as_pattern(output: str) -> str:
    return "".join(_line_pattern(line) for line in output.splitlines(keepends=True))


def _line_pattern(line: str) -> str:
    if line == "...\n":
        return r"(?:.*\n)*?"
    return re.escape(line.removesuffix("...\n")) + ".*\n" if line.endswith("...\n") else re.escape(line)


@contextlib.contextmanager
def playground() -> Iterator[None]:
    """A folder of its own, which is also where modules are looked for."""
    before = os.getcwd(), list(sys.path), set(sys.modules)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sys.path.insert(0, folder)
        try:
            yield
        finally:
            os.chdir(before[0])
            sys.path[:] = before[1]
            for name in set(sys.modules) - before[2]:
                path = getattr(sys.modules[name], "__file__", None) or ""
                if path.startswith(folder):
                    del sys.modules[name]


class Documents(SynchronousTestCase):
    def check(self, name: str) -> None:
        text = (ROOT / "doc" / name).read_text(encoding="utf-8")
        names: dict[str, Any] = {"__name__": "document"}
        ran = 0
        with playground():
            for block in blocks(text):
                where = f"doc/{name}:{block.line}"
                if block.what == "same as":
                    self.assertEqual(block.text, (ROOT / block.name).read_text(encoding="utf-8"), where)
                elif block.what == "file":
                    Path(block.name).write_text(block.text, encoding="utf-8")
                elif block.kind == "python":
                    with contextlib.redirect_stdout(io.StringIO()):
                        exec(compile("\n" * (block.line - 1) + block.text, where, "exec"), names)
                    ran += 1
                elif block.kind == "console":
                    for command, output in commands(block.text):
                        got = run(command)
                        self.assertTrue(re.fullmatch(as_pattern(output), got), f"{where}: $ {command}\n{got}\n{HINT}")
                        ran += 1
        self.assertGreater(ran, 0)

    def test_no_document_has_blocks_of_unknown_kind(self) -> None:
        for name in DOCUMENTS:
            for block in blocks((ROOT / "doc" / name).read_text(encoding="utf-8")):
                self.assertIn(block.kind, ("python", "console", "yaml", "text"), f"doc/{name}:{block.line}")


def _add(name: str) -> None:
    def test(self: Documents) -> None:
        self.check(name)

    setattr(Documents, f"test_{name.removesuffix('.md')}", test)


for _name in DOCUMENTS:
    _add(_name)


def write() -> None:
    """Put the outputs of now into the documents, where they have no "..."."""
    for name in DOCUMENTS:
        path = ROOT / "doc" / name
        text = path.read_text(encoding="utf-8")
        with playground():
            for block in blocks(text):
                if block.what == "file":
                    Path(block.name).write_text(block.text, encoding="utf-8")
                elif block.what == "same as":
                    text = text.replace(
                        f"<!-- same as: {block.name} -->\n```{block.kind}\n{block.text}```",
                        f"<!-- same as: {block.name} -->\n```{block.kind}\n{(ROOT / block.name).read_text(encoding='utf-8')}```",
                    )
                elif block.kind == "console" and "...\n" not in block.text:
                    made = "".join(f"$ {command}\n{run(command)}" for command, _ in commands(block.text))
                    text = text.replace(f"```console\n{block.text}```", f"```console\n{made}```")
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
