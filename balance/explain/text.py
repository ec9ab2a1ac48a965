"""An answer for people.

Rule of this file: every line says one thing; columns are aligned; what does not apply is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from textwrap import wrap

from balance.explain.model import Candidate, Explanation, FieldChange

_SIGNS = {"add": "+", "set": "=", "change": "=", "remove": "-"}
_WIDTH = 100
_OUTCOMES = {"match": "yes", "no": "no", "not tried": "-"}


def render(answer: Explanation) -> str:
    """The whole answer, without a newline at its end."""
    return "\n".join(line.rstrip() for line in _lines(answer)).rstrip()


def _lines(answer: Explanation) -> Iterator[str]:
    request = answer.request
    what = f"{request['method']} {request['url']}" if "method" in request else request["url"]
    yield what
    listener = answer.listener
    name = "" if listener["name"] == listener["address"] else f" {listener['name']}"
    yield f"  listener{name} {listener['address']}, mode {listener['mode']}; client {answer.client}"
    yield ""
    if answer.routes:
        yield "routes, in the order they are tried"
        yield from _indented(_table(_routes(answer)))
        yield ""
    if answer.filters:
        yield f"filters, which are not asked here: {', '.join(answer.filters)}"
        yield ""
    yield from _pool(answer)
    if answer.refusal is not None:
        yield f"answered {answer.refusal.status} {answer.refusal.reason}: {answer.refusal.detail}"
        return
    yield from _heads(answer)
    if answer.timeouts:
        yield "timeouts"
        yield "  " + ", ".join(
            f"{name} {value:g}s" if value else f"{name} none" for name, value in answer.timeouts.items()
        )
        yield ""
    if answer.retries:
        yield "if the backend fails"
        for case in answer.retries:
            yield f"  {case.then}"
            yield from wrap(", ".join(case.errors), _WIDTH, initial_indent="    ", subsequent_indent="    ")


def _routes(answer: Explanation) -> Iterator[list[str]]:
    for number, route in enumerate(answer.routes, 1):
        priority = f" (priority {route.priority})" if route.priority else ""
        why = route.why or route.conditions
        yield [f"{number}.", route.name + priority, _OUTCOMES[route.outcome], why]


def _pool(answer: Explanation) -> Iterator[str]:
    pool, choice = answer.pool, answer.choice
    if pool is None or choice is None:
        return
    by = f" by {pool.hash_key}" if pool.hash_key else ""
    key = "" if pool.key is None else f", key {pool.key!r}" if pool.key else ", no key in this request"
    yield f"pool {pool.name}: {pool.algorithm}{by}{key}; {pool.queued} of at most {pool.max_queue} waiting"
    affinity = answer.affinity
    if affinity is not None:
        bound = affinity.bound or ("nobody" if affinity.known else "unknown: it cannot be asked without an effect")
        yield f"  affinity by {affinity.key}: the client is bound to {bound}"
    yield from _indented(_table([_candidate(each, choice.backend) for each in answer.candidates]))
    yield ""
    if choice.backend is not None:
        yield f"{choice.backend}, chosen by the {choice.by}{': ' + choice.why if choice.why else ''}"
        yield ""
    elif choice.by or answer.refusal is None:
        yield choice.why
        yield ""


def _candidate(each: Candidate, chosen: str | None) -> list[str]:
    most = f" of {each.max_connections}" if each.max_connections else ""
    mark = "->" if each.name == chosen else ""
    return [mark, each.name, each.address, f"weight {each.weight}", f"{each.active}{most} active", each.state, each.why]


def _heads(answer: Explanation) -> Iterator[str]:
    if answer.upstream:
        yield "sent to the backend"
        added = {f"{change.name}: {change.value}" for change in answer.changes}
        for line in answer.upstream:
            yield f"  {'+' if line in added else ' '} {line}"
        yield from (f"  - {change.name}" for change in answer.changes if change.what == "remove")
        yield ""
    if answer.response_edits:
        yield "edits of the response"
        yield from _indented(_edits(answer.response_edits))
        yield ""


def _edits(changes: Sequence[FieldChange]) -> Iterator[str]:
    for change in changes:
        yield f"{_SIGNS[change.what]} {change.name}{': ' + change.value if change.value else ''}"


def _table(rows: Iterable[list[str]]) -> list[str]:
    """Cells under each other; columns without any content are left out."""
    cells = list(rows)
    columns = [column for column in zip(*cells, strict=True) if any(column)]
    widths = [max(len(cell) for cell in column) for column in columns]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in zip(*columns, strict=True)
    ]


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)
