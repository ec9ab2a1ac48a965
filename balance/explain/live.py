"""The question asked of a running Balance, over its status listener.

Rule of this file: whoever can read the statistics may ask, so an answer holds no secret of the configuration: values of
fields that carry one are blotted out wherever they stand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from balance.explain.answer import explain
from balance.explain.question import BadQuestion, Question, header

if TYPE_CHECKING:
    from balance.assembly import Assembly

_PARAMETERS: Final = ("url", "method", "header", "client", "listener", "alpn")
_SENSITIVE: Final = re.compile(r"auth|cookie|token|secret|passw|api-?key|credential|signature", re.IGNORECASE)
_BLOT: Final = "***"


def ask(assemblies: Sequence[Assembly], query: Mapping[bytes, Sequence[bytes]]) -> tuple[int, dict[str, Any]]:
    """Answer a query such as ``url=http://shop.example/&header=X-Tenant: t1``; HTTP status and what goes to JSON.

    :param query: parameters, each as often as it was given
    """
    try:
        answer = explain(assemblies, question(query)).as_dict()
    except BadQuestion as error:
        return 400, {"error": str(error)}
    secrets = {secret for assembly in assemblies for secret in _secrets(assembly.config)}
    return 200, _blotted(answer, secrets)


def question(query: Mapping[bytes, Sequence[bytes]]) -> Question:
    """
    :raises BadQuestion: a parameter is unknown, missing, given twice, or wrong
    """
    given = {name.decode("latin-1"): [each.decode("utf-8", "replace") for each in query[name]] for name in query}
    for name in given:
        if name not in _PARAMETERS:
            raise BadQuestion(f"unknown parameter {name!r}; there are {', '.join(_PARAMETERS)}")
        if len(given[name]) > 1 and name not in ("header", "alpn"):
            raise BadQuestion(f"the parameter {name!r} is given twice")
    if "url" not in given:
        raise BadQuestion("the parameter 'url' is missing, such as /explain?url=http://shop.example/")
    single = {name: values[0] for name, values in given.items() if name not in ("header", "alpn")}
    return Question(**single, headers=[header(each) for each in given.get("header", ())], alpn=given.get("alpn", ()))


def _secrets(config: Any) -> Iterator[str]:
    """Values in the configuration of one listener that nobody else is to see."""
    for route in config.http.routes:
        sources = [route.headers]
        for edits in (route.request_headers, route.response_headers):
            sources += [edits.set, edits.add] if edits is not None else []
        for source in sources:
            yield from (value for name, value in source.items() if _SENSITIVE.search(name) and value)


def _blotted(value: Any, secrets: set[str]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, _BLOT)
        return value
    if isinstance(value, Mapping):
        return {key: _blotted(each, secrets) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_blotted(each, secrets) for each in value]
    return value
