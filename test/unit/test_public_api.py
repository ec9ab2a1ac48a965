"""What is public does not change unless CHANGELOG.md says so.

When this fails: name what you changed or removed, in backticks, in the topmost section of CHANGELOG.md. With a release,
`python -m test.public_api > test/public_api.txt` begins a new record.
"""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from test.public_api import surface

ROOT = Path(__file__).resolve().parents[2]
_RECORD = ROOT / "test" / "public_api.txt"


def recorded() -> dict[str, str]:
    found = {}
    for line in _RECORD.read_text().splitlines():
        match = re.match(r"[\w.]+", line)
        assert match is not None, line
        found[match[0]] = line[match.end() :]
    return found


def told() -> set[str]:
    """What stands in backticks in the topmost section of CHANGELOG.md, and the last parts of dotted names."""
    section = (ROOT / "CHANGELOG.md").read_text().split("\n## ")[1]
    names = {re.sub(r"\(.*", "", name) for name in re.findall(r"`([^`]+)`", section)}
    return names | {name.rpartition(".")[2] for name in names}


def untold(now: dict[str, str], before: dict[str, str], told: set[str]) -> list[str]:
    """What changed or went, and is not told: under its own name, or its class's."""
    changed = [name for name, what in before.items() if now.get(name) != what]
    return [
        f"{name}{before[name]}  is now  {name}{now[name]}" if name in now else f"{name}{before[name]}  is gone"
        for name in changed
        if not {name, name.rpartition(".")[2], ".".join(name.split(".")[-2:]), name.split(".")[-2]} & told
    ]


class PublicApi(SynchronousTestCase):
    def test_nothing_changes_in_silence(self) -> None:
        self.assertEqual(untold(surface(), recorded(), told()), [], __doc__)

    def test_what_is_recorded(self) -> None:
        """The rule would notice: the record has what third parties build on."""
        record = recorded()
        self.assertEqual(record["balance.interfaces.IBalancer.pick"], "(candidates, key)")
        self.assertIn("status: 'int'", record["balance.filters.Answer"])
        for name in ("filters.Context.client_ip", "testing.Application.get", "errors.NoBackend", "model.Headers.get"):
            self.assertIn(f"balance.{name}", record)

    def test_a_change_has_to_be_told(self) -> None:
        before = {"balance.x.Thing.do": "(a)", "balance.x.gone": "()", "balance.x.same": "()"}
        now = {"balance.x.Thing.do": "(a, b)", "balance.x.same": "()", "balance.x.new": "()"}
        self.assertEqual(
            untold(now, before, set()),
            ["balance.x.Thing.do(a)  is now  balance.x.Thing.do(a, b)", "balance.x.gone()  is gone"],
        )
        self.assertEqual(len(untold(now, before, {"gone"})), 1)
        self.assertEqual(untold(now, before, {"Thing.do", "gone"}), [])
        self.assertEqual(untold(now, before, {"Thing", "gone"}), [])
