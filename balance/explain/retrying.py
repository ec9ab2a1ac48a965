"""Step 8: what would follow a failure, kind by kind, of the error tree and the retry rules themselves.

Rule of this file: there is no table here. Every error that a backend can cause is asked what the server would ask.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import TYPE_CHECKING

from balance.errors import BackendError, DnsFailure, ExchangeError, Retry
from balance.explain.model import RetryCase
from balance.resilience.retry import may_retry

if TYPE_CHECKING:
    from balance.explain.choosing import Chosen
    from balance.http.proxy import HttpProxy
    from balance.model import RequestHead


def retry_plan(proxy: HttpProxy, head: RequestHead, chosen: Chosen) -> tuple[RetryCase, ...]:
    """What follows each error of a backend, errors with the same consequence together."""
    plan: dict[str, list[str]] = {}
    for error in backend_errors():
        then = _consequence(proxy, error, head.method, chosen)
        plan.setdefault(then, []).append(name_of(error))
    return tuple(RetryCase(tuple(names), then) for then, names in plan.items())


def tcp_retry_plan(chosen: Chosen) -> tuple[RetryCase, ...]:
    """At layer 4 only a connection that could not be made is tried again."""
    names = tuple(name_of(error) for error in backend_errors() if error.retry is Retry.UNSENT)
    return (RetryCase(names, f"{_next(chosen)}; then the client's connection is closed"),)


def backend_errors() -> list[BackendError]:
    """One of each kind."""
    return [kind() for kind in dict.fromkeys(_leaves(BackendError)) if kind is not BackendError]


def name_of(error: ExchangeError) -> str:
    """Its reason code; the class where several share one."""
    return error.reason if "reason" in vars(type(error)) else _snake(type(error).__name__)


def _consequence(proxy: HttpProxy, error: BackendError, method: bytes, chosen: Chosen) -> str:
    answer = f"answered {error.status}"
    if not may_retry(error, method, replayable=True):
        return answer
    if error.retry is Retry.UNSENT:
        return f"{_next(chosen)}; then {answer}"
    if not proxy.retry_attempts:
        return f"{answer}: retries.attempts is 0"
    times = "once more" if proxy.retry_attempts == 1 else f"up to {proxy.retry_attempts} times more"
    if error.retry is Retry.UNPROCESSED:
        return f"{times}, on a fresh connection, whatever the method; then {answer}"
    if not copy(proxy.retry_budget).withdraw(proxy.deadlines.now):
        return f"{answer}: the retry budget is spent"
    return f"{times}, on a fresh connection, while the retry budget lasts; then {answer}"


def _next(chosen: Chosen) -> str:
    return "next " + ", then ".join(chosen.choice.then) if chosen.choice.then else "no other backend is left"


def _leaves(kind: type[BackendError]) -> Iterator[type[BackendError]]:
    yield kind
    for each in kind.__subclasses__():
        if each.__module__ == DnsFailure.__module__:  # those of plugins' own and of tests have no place in a plan
            yield from _leaves(each)


def _snake(name: str) -> str:
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name).lstrip("_")
