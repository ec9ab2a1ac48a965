"""The console script as it is installed: `balance run`, and questions to a running Balance."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import yaml

from test.integration.harness import (
    PATIENCE,
    ROOT,
    accepts,
    answering,
    backends,
    balance,
    free_port,
    read_response,
    simple,
    wait_for,
)

BALANCE = str(Path(sys.executable).with_name("balance"))
GET = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BALANCE, *arguments], capture_output=True, text=True, timeout=PATIENCE, cwd=ROOT)


def test_run_in_the_foreground(tmp_path: Path) -> None:
    port, path, log = free_port(), tmp_path / "b.yaml", tmp_path / "log"
    with backends(answering(simple(b"hi"))) as (backend,):
        path.write_text(yaml.safe_dump({"listen": f"127.0.0.1:{port}", "backends": [backend.config]}))
        arguments = [BALANCE, "run", "--config", str(path), "--logfile", str(log), "--pidfile", str(tmp_path / "pid")]
        with subprocess.Popen(arguments, cwd=tmp_path) as process:
            try:
                wait_for(lambda: accepts(port), "balance run to listen")
                with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
                    connection.sendall(GET)
                    assert read_response(connection).body == b"hi"
                assert int((tmp_path / "pid").read_text()) == process.pid
                assert "listening on" in log.read_text()
                process.send_signal(signal.SIGTERM)
                assert process.wait(PATIENCE) == 0
            finally:
                process.kill()
    assert command("run", "--config", "/nowhere/x.yaml").returncode == 1


def test_a_running_balance_answers_as_it_is_now() -> None:
    def dead(connection: object, backend: object) -> None:
        """Closes at once."""

    with backends(answering(simple(b"one")), dead) as (one, two):
        config = {"backends": [one.config, two.config], "health_check": {"consecutive_failures": 1}}
        with balance(config) as proxy:
            ask = ("explain", "--ask", f"127.0.0.1:{proxy.metrics_port}", "--json", "http://a.example/")
            answers = [json.loads(command(*ask).stdout) for _ in range(3)]
            assert answers[0] == answers[1] == answers[2]
            assert [each["state"] for each in answers[0]["candidates"]] == ["healthy", "healthy"]
            assert answers[0]["choice"]["backend"] == one.config["name"]
            assert [proxy.get().status for _ in range(2)] == [200, 502]
            answer = json.loads(command(*ask).stdout)
            assert [each["state"] for each in answer["candidates"]] == ["healthy", "ejected"]
            text = command("explain", "--ask", f"http://127.0.0.1:{proxy.metrics_port}", "http://a.example/")
            assert (text.returncode, text.stderr) == (0, "")
            assert "taken out by passive health" in text.stdout
            wrong = command("explain", "--ask", f"http://127.0.0.1:{proxy.metrics_port}", "/", "--listener", "x")
            assert (wrong.returncode, wrong.stdout) == (1, "")
            assert "there is no listener 'x'" in wrong.stderr
            assert "balance_requests" in proxy.metrics()
