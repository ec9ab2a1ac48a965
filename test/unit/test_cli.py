"""The `balance` command, as typed."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from balance.cli import main

CONFIG = """
listen: ":8080"
backends: [{name: a, address: "10.0.0.1:80"}, {name: b, address: "10.0.0.2:80"}]
http: {routes: [{name: shop, host: shop.example, backends: [a, b]}]}
"""


class Commands(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = self.mktemp()
        Path(self.path).write_text(CONFIG, encoding="utf-8")

    def run_it(self, *arguments: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = main(arguments)
            except SystemExit as end:
                status = int(end.code or 0)
        return status, out.getvalue(), err.getvalue()

    def test_help_of_everything(self) -> None:
        status, text, _ = self.run_it("--help")
        self.assertEqual(status, 0)
        for command in ("check", "run", "explain", "simulate", "plugins", "exit status:"):
            self.assertIn(command, text)
        for command in ("check", "run", "explain", "simulate", "plugins"):
            status, text, _ = self.run_it(command, "--help")
            self.assertEqual((status, text.startswith(f"usage: balance {command}")), (0, True))

    def test_version(self) -> None:
        status, out, _ = self.run_it("--version")
        self.assertEqual(status, 0)
        self.assertRegex(out, r"^Balance \d+\.\d+\S* on Twisted \d+\.")

    def test_wrong_use(self) -> None:
        for arguments in ((), ("frobnicate",), ("check", "--nonsense"), ("explain",)):
            status, out, err = self.run_it(*arguments)
            self.assertEqual((status, out), (2, ""))
            self.assertIn("usage: balance", err)

    def test_check(self) -> None:
        status, out, _ = self.run_it("check", "--config", self.path)
        self.assertEqual(status, 0)
        self.assertIn("1. shop: host shop.example", out)
        Path(self.path).write_text("backends: []\nlissten: 1\n", encoding="utf-8")
        status, out, err = self.run_it("check", "-c", self.path)
        self.assertEqual((status, out), (1, ""))
        self.assertIn(f"{self.path}:2:1: lissten: unknown key", err)
        self.assertEqual(self.run_it("check", "-c", "/nowhere/x.yaml")[0], 1)

    def test_explain(self) -> None:
        status, out, _ = self.run_it(
            "explain",
            "-c",
            self.path,
            "-X",
            "POST",
            "http://shop.example/x",
            "-H",
            "X-A: b",
            "--client",
            "198.51.100.7",
        )
        self.assertEqual(status, 0)
        self.assertIn("POST http://shop.example/x", out)
        self.assertIn("    X-A: b\n  + X-Forwarded-For: 198.51.100.7\n", out)

    def test_explain_for_programs(self) -> None:
        status, out, _ = self.run_it("explain", "-c", self.path, "--json", "http://shop.example/", "--down", "a")
        answer = json.loads(out)
        self.assertEqual((status, answer["route"], answer["choice"]["backend"]), (0, "shop", "b"))

    def test_explain_says_no(self) -> None:
        status, out, _ = self.run_it("explain", "-c", self.path, "http://other.example/")
        self.assertEqual(status, 3)
        self.assertIn("answered 404 no_route", out)

    def test_explain_cannot_be_asked(self) -> None:
        for arguments, words in (
            (("ftp://x/",), "neither a path nor a URL"),
            (("/", "-H", "nonsense"), "'nonsense' is not a header field"),
            (("/", "--down", "c"), "there is no backend 'c'"),
            (("/", "--listener", "x"), "there is no listener 'x'"),
            (("/", "--ask", "ftp://x"), "no http URL"),
            (("/", "--ask", "127.0.0.1:1"), "http://127.0.0.1:1 cannot be asked: "),
            (("/", "--ask", "127.0.0.1:1", "--down", "a"), "--down is for a configuration"),
        ):
            status, out, err = self.run_it("explain", "-c", self.path, *arguments)
            self.assertEqual((status, out), (1, ""))
            self.assertIn(words, err)
            self.assertTrue(err.startswith("balance: "))

    def scenario(self, text: str = "") -> str:
        path = f"{self.mktemp()}.yaml"
        more = "duration: 5s\nrate: 20\nrequests: [{name: cart, url: 'http://shop.example/cart'}]\n" + text
        Path(path).write_text(more, encoding="utf-8")
        return path

    def test_simulate(self) -> None:
        status, out, _ = self.run_it("simulate", "-c", self.path, "--requests", self.scenario())
        self.assertEqual(status, 0)
        self.assertRegex(out, r"cart +\d+ +shop +0 +10ms")
        status, out, _ = self.run_it("simulate", "-c", self.path, "--requests", self.scenario(), "--json")
        told = json.loads(out)
        self.assertEqual((status, told["classes"][0]["routes"]), (0, {"shop": told["requests"]}))
        _, other, _ = self.run_it("simulate", "-c", self.path, "--requests", self.scenario(), "--json", "--seed", "2")
        self.assertNotEqual(json.loads(other)["requests"], told["requests"])

    def test_simulate_two(self) -> None:
        against = self.mktemp()
        Path(against).write_text(CONFIG.replace("name: shop", "name: store"), encoding="utf-8")
        asked = ("simulate", "-c", self.path, "--against", against, "--requests", self.scenario())
        status, out, _ = self.run_it(*asked)
        self.assertEqual(status, 0)
        self.assertIn("from one route to another", out)
        self.assertRegex(out, r"cart +shop +store +\d+")
        told = json.loads(self.run_it(*asked, "--json")[1])
        self.assertEqual(told["changes"]["classes"][0]["other_route"], told["a"]["requests"])

    def test_simulate_a_log(self) -> None:
        log = self.mktemp()
        line = '198.51.100.7 - - [25/Nov/2026:20:14:27 +0000] "GET /a/b HTTP/1.1" 200 5 "-" "-"\n'
        Path(log).write_text(line * 3 + "nonsense\n", encoding="utf-8")
        status, out, err = self.run_it("simulate", "-c", self.path, "--requests", log)
        self.assertEqual((status, err), (0, f"balance: 1 unread lines in {log}, passed over\n"))
        self.assertIn("no_route 3", out)

    def test_simulate_draws(self) -> None:
        for ending, magic in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
            picture = self.mktemp() + ending
            arguments = ("-c", self.path, "--against", self.path, "--requests", self.scenario(), "--plot", picture)
            self.assertEqual(self.run_it("simulate", *arguments)[0], 0)
            self.assertTrue(Path(picture).read_bytes().startswith(magic))

    def test_simulate_cannot_draw(self) -> None:
        asked = ("simulate", "-c", self.path, "--requests", self.scenario(), "--plot")
        self.assertIn("must end in .png or .svg", self.run_it(*asked, "x.gif")[2])
        with patch.dict(sys.modules, {"matplotlib": None}):
            status, out, err = self.run_it(*asked, "x.png")
        self.assertEqual((status, out), (1, ""))
        self.assertEqual(err, "balance: --plot needs matplotlib, which is not installed: pip install 'balance[plot]'\n")

    def test_simulate_what_is_wrong(self) -> None:
        wrong = self.scenario("failures: [{backend: z, at: 1s, until: 2s, kind: refuse}]")
        self.assertIn("names a backend 'z'", self.run_it("simulate", "-c", self.path, "--requests", wrong)[2])
        wrong = self.scenario("rat: 1")
        self.assertIn(
            f"{wrong}:4:1: rat: unknown key", self.run_it("simulate", "-c", self.path, "--requests", wrong)[2]
        )

    def test_plugins(self) -> None:
        status, out, _ = self.run_it("plugins")
        self.assertEqual(status, 0)
        self.assertRegex(out, r"\nround-robin +balancer +balance\.plugins\.builtin\.Builtin +balance \d")
        status, out, _ = self.run_it("plugins", "--json")
        row = next(row for row in json.loads(out)["plugins"] if row["name"] == "random")
        self.assertEqual((row["kind"], row["module"]), ("balancer", "balance.plugins.builtin.Builtin"))

    def test_a_broken_plugin_is_told(self) -> None:
        import balance.plugins

        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "broken_for_a_test.py").write_text("import no_such_thing\n", encoding="utf-8")
        balance.plugins.__path__.append(str(folder))
        self.addCleanup(balance.plugins.__path__.remove, str(folder))
        self.addCleanup(sys.modules.pop, "balance.plugins.broken_for_a_test", None)
        status, out, _ = self.run_it("plugins")
        self.flushLoggedErrors(ModuleNotFoundError)
        self.assertEqual(status, 1)
        self.assertIn("broken: balance.plugins.broken_for_a_test", out)
        self.assertIn("ModuleNotFoundError: No module named 'no_such_thing'", out)
        self.assertIn("round-robin", out)
