"""``balance explain``."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from typing import Any, Final
from urllib.parse import urlencode

from balance.cli.check import read
from balance.explain import BadQuestion, Question, explain, offline, render
from balance.explain.model import Explanation
from balance.explain.question import header

_TIMEOUT: Final = 10.0
_SIZE_MAX: Final = 16 << 20


def run(options: Any) -> int:
    """Ask the configuration, or a running Balance.

    :raises ConfigError: the configuration is wrong
    :raises BadQuestion: the question is, or nobody answers it
    """
    question = Question(
        options.url,
        options.method,
        [header(each) for each in options.header],
        options.client,
        options.listener,
        options.alpn,
    )
    if options.ask:
        if options.down:
            raise BadQuestion("--down is for a configuration; a running Balance is asked as it is")
        answer = Explanation.of_dict(_ask(options.ask, question))
    else:
        answer = explain(offline(read(options.config), down=options.down), question)
    text = json.dumps(answer.as_dict(), indent=1) if options.json else render(answer)
    sys.stdout.write(text + "\n")
    return 0 if answer.forwarded else 3


def _ask(base: str, question: Question) -> dict[str, Any]:
    """The answer of a running Balance.

    :param base: where its metrics listen
    """
    query = [("url", question.url), ("method", question.method), ("client", question.client)]
    query += [("header", f"{name}: {value}") for name, value in question.headers]
    query += [("alpn", each) for each in question.alpn]
    query += [("listener", question.listener)] if question.listener else []
    base = base if "://" in base else f"http://{base}"
    if not base.startswith(("http://", "https://")):
        raise BadQuestion(f"{base!r} is no http URL")
    url = f"{base.rstrip('/')}/explain?{urlencode(query)}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_TIMEOUT) as response:
            return _object(response.read(_SIZE_MAX), base)
    except urllib.error.HTTPError as error:
        told = _object(error.read(_SIZE_MAX), base) if error.code == 400 else {}
        raise BadQuestion(
            told.get("error") or f"{base} answered {error.code}: is that where its metrics listen?"
        ) from None
    except (OSError, ValueError) as error:
        raise BadQuestion(f"{base} cannot be asked: {getattr(error, 'reason', error)}") from None


def _object(raw: bytes, base: str) -> dict[str, Any]:
    try:
        data = json.loads(raw)
    except ValueError:
        raise BadQuestion(f"{base} did not answer with JSON: is that where its metrics listen?") from None
    return data if isinstance(data, dict) else {}
