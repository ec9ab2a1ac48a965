"""Which command, and with what."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, Final

from balance.errors import BalanceError

GOOD: Final = 0
MISTAKE: Final = 1
NO: Final = 3

_CONFIG: Final = "etc/balance.yaml"
_EPILOG: Final = """exit status:
  0  good
  1  a mistake in the configuration or the question; standard error tells
  2  wrong use of the command
  3  explain: no backend would get the request

`twistd balance --config FILE` runs the same service as a daemon, with all of twistd's options."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status.

    :param arguments: those of the process by default
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except BalanceError as error:
        sys.stderr.write(f"balance: {error}\n")
        return MISTAKE
    except BrokenPipeError:  # of `balance ... | head`
        sys.stderr.close()
        return GOOD


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="balance",
        description="A reverse proxy and load balancer: check a configuration, run it, and ask what it does and why.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the versions of Balance and Twisted")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _check(commands)
    _run(commands)
    _explain(commands)
    _simulate(commands)
    _plugins(commands)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        sys.stdout.write(f"Balance {version('balance')} on Twisted {version('twisted')}\n")
        parser.exit(GOOD)


def _command(commands: Any, name: str, summary: str, about: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(command=run)
    return parser


def _config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", metavar="FILE", default=_CONFIG, help="the configuration (%(default)s)")


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs: JSON on standard output")


def _check(commands: Any) -> None:
    def run(options: Any) -> int:
        from balance.cli.check import check

        return check(options.config)

    about = "Read a configuration and print what it means: listeners, routes in the order they are tried, pools.\n"
    about += "Every mistake in it is told with its line and column, all in one go."
    _config(_command(commands, "check", "read a configuration and print what it means", about, run))


def _run(commands: Any) -> None:
    def run(options: Any) -> int:
        from balance.cli.run import run

        return run(options.config, options.pidfile, options.logfile)

    about = "Run Balance in the foreground, through twistd. SIGTERM and Ctrl-C stop it when what is under way is done."
    parser = _command(commands, "run", "run it in the foreground", about, run)
    _config(parser)
    parser.add_argument("--pidfile", metavar="FILE", default="", help="write the process id there")
    parser.add_argument("--logfile", metavar="FILE", default="-", help="log there, not to standard output")


def _explain(commands: Any) -> None:
    def run(options: Any) -> int:
        from balance.cli.explain import run

        return run(options)

    about = """Say what Balance would do with a request, and why: every route in the order they are tried, the backends
and their state, who is chosen, what is sent there, and what follows a failure. Nothing is sent anywhere.

  balance explain -c shop.yaml http://shop.example/cart -H 'X-Tenant: t1'
  balance explain -c shop.yaml tls://db.example.com         (mode tcp: by server name)
  balance explain --ask http://127.0.0.1:9090 /cart         (of a running Balance, as it is now)"""
    parser = _command(commands, "explain", "what would be done with a request, and why", about, run)
    parser.add_argument("url", metavar="URL", help="http://host/path, a path, or for mode tcp tls://name or tcp://")
    _config(parser)
    parser.add_argument("-X", "--method", metavar="METHOD", default="GET", help="the request's method (%(default)s)")
    parser.add_argument(
        "-H", "--header", metavar="'NAME: VALUE'", action="append", default=[], help="a header field; as many as wanted"
    )
    parser.add_argument("--client", metavar="IP", default="192.0.2.1", help="address it comes from (%(default)s)")
    parser.add_argument("--listener", metavar="NAME", default="", help="listener it comes to; else the one that fits")
    parser.add_argument("--alpn", metavar="PROTOCOL", action="append", default=[], help="mode tcp: what TLS offers")
    parser.add_argument("--down", metavar="BACKEND", action="append", default=[], help="as if that one were down")
    parser.add_argument("--ask", metavar="URL", default="", help="ask the Balance whose metrics listen there")
    _json(parser)


def _simulate(commands: Any) -> None:
    def run(options: Any) -> int:
        from balance.cli.simulate import run

        return run(options)

    about = """Let requests come, backends be slow and fail, in simulated time, and see what the configuration makes of
it: which route and backend requests get, how they are spread, who is taken out and when, how much is tried again,
who waits, and how long answers take. With --against: what another configuration would change.

  balance simulate -c shop.yaml --requests friday.yaml
  balance simulate -c shop.yaml --against new.yaml --requests access.log --plot change.svg

The requests are an access log (combined or json), or a scenario (.yaml): see doc/simulate.md."""
    parser = _command(commands, "simulate", "requests and failures in simulated time", about, run)
    _config(parser)
    parser.add_argument("--against", metavar="FILE", default="", help="another configuration to compare with")
    parser.add_argument("--requests", metavar="FILE", required=True, help="an access log, or a scenario (.yaml)")
    parser.add_argument("--listener", metavar="NAME", default="", help="listener they come to; else the first of http")
    parser.add_argument("--seed", metavar="N", type=int, help="of all chance, in place of the scenario's")
    parser.add_argument("--plot", metavar="FILE", default="", help="a picture too: FILE.png or FILE.svg")
    _json(parser)


def _plugins(commands: Any) -> None:
    def run(options: Any) -> int:
        from balance.cli.plugins import plugins

        return plugins(as_json=options.json)

    about = "List what is installed: name, kind, module and distribution of every plugin, and why one is broken."
    _json(_command(commands, "plugins", "what is installed, and from where", about, run))
