"""From a question to an answer: which listener, and then the steps of its kind, in the server's order.

Rule of this file: steps 3 to 7 of a request's life (`balance.http.exchange`), each asked of the very object that serves
it, in its form without an effect. Where the server raises an error, that error is the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from balance.codec.http1 import parse_request, write_request
from balance.errors import ContentTooLarge, ExchangeError, NoRoute
from balance.explain.choosing import Chosen, choose
from balance.explain.model import Explanation, FieldChange, Refusal, RouteTried
from balance.explain.question import BadQuestion, Question
from balance.explain.retrying import retry_plan, tcp_retry_plan
from balance.http.proxy import HttpProxy
from balance.http.route import HttpRoute
from balance.model import RequestHead
from balance.routing.matching import MatchedRule
from balance.routing.rule import Rule
from balance.routing.sni import SniRule

if TYPE_CHECKING:
    from balance.assembly import Assembly


def explain(assemblies: Sequence[Assembly], question: Question) -> Explanation:
    """What would be done with a request (mode http) or a connection (mode tcp) that came now. Nothing changes by
    asking.

    :raises BadQuestion: there is no such listener, or the question does not fit it
    """
    assembly = _listener(assemblies, question)
    if isinstance(assembly.proxy, HttpProxy):
        return _http(assembly, assembly.proxy, question)
    return _tcp(assembly, question)


def _listener(assemblies: Sequence[Assembly], question: Question) -> Assembly:
    """The one that is named; else of those of the right mode the one at the URL's port, or the first."""
    mode = "tcp" if question.layer4 else "http"
    if question.listener:
        for assembly in assemblies:
            if question.listener in (assembly.config.label, str(assembly.config.listen)):
                if assembly.config.mode != mode:
                    raise BadQuestion(f"listener {question.listener} is of mode {assembly.config.mode}, not {mode}")
                return assembly
        names = ", ".join(assembly.config.label for assembly in assemblies)
        raise BadQuestion(f"there is no listener {question.listener!r}; there are {names}")
    fitting = [assembly for assembly in assemblies if assembly.config.mode == mode]
    if not fitting:
        hint = "a URL of mode tcp begins with tls:// or tcp://" if mode == "http" else "ask with http:// or https://"
        raise BadQuestion(f"there is no listener of mode {mode}; {hint}")
    return next((assembly for assembly in fitting if assembly.config.listen.port == question.port), fitting[0])


# --- mode http ------------------------------------------------------------------------------------------------------


def _http(assembly: Assembly, proxy: HttpProxy, question: Question) -> Explanation:
    about: dict[str, Any] = {
        "listener": {"name": proxy.name, "mode": "http", "address": str(assembly.config.listen)},
        "request": {
            "method": question.method,
            "url": question.url,
            "headers": [list(pair) for pair in question.headers],
        },
        "client": question.client,
    }
    try:
        return _steps(assembly, proxy, question, about)
    except ExchangeError as error:
        return Explanation(**about, refusal=_refusal(error))


def _steps(assembly: Assembly, proxy: HttpProxy, question: Question, about: dict[str, Any]) -> Explanation:
    """``about`` collects what is known when an error ends it."""
    head = parse_request(question.block(), proxy.head_limits)
    about["request"] |= {"host": _text(head.host), "target": _text(head.target)}
    came = list(head.headers.lines)
    secure = proxy.tls is not None or question.scheme in ("https", "wss")
    forwarding = proxy.forwarding.for_peer(question.client, b"https" if secure else b"http")
    client_ip = about["client"] = forwarding.apply(head)
    about["filters"] = _filters(proxy)
    rule = proxy.routes.match(head, forwarding.facts)
    about["routes"] = _tried(proxy.routes.ordered, rule, head, forwarding.facts)
    if rule is None:
        raise NoRoute
    route: HttpRoute = rule.target
    about["route"] = route.name
    about["filters"] = _filters(route)
    if head.upgrade:
        route.websocket.admit(head)
    if route.strict:
        route.admit(head)
        if route.max_body and head.length > route.max_body:
            raise ContentTooLarge
    about["timeouts"] = dict(proxy.timeouts)
    chosen = choose(assembly.config, route, head, client_ip)
    about |= chosen.parts()
    if chosen.error is not None:
        raise chosen.error
    about["upstream"], about["changes"] = _upstream(proxy, route, chosen, head, came)
    about["response_edits"] = _response_edits(proxy, route, chosen)
    about["retries"] = retry_plan(proxy, head, chosen)
    return Explanation(**about)


def _tried(rules: Iterable[Any], matched: Any, *request: Any) -> tuple[RouteTried, ...]:
    tried = []
    over = False
    for rule in rules:
        if over:
            outcome, why = "not tried", f"{matched.name} matched before it"
        elif rule is matched:
            outcome, why, over = "match", "", True
        else:
            outcome, why = "no", rule.explain(*request)
        tried.append(RouteTried(rule.name, rule.priority, conditions(rule), outcome, why))
    return tuple(tried)


def conditions(rule: Rule[Any] | SniRule[Any]) -> str:
    """What a rule asks for, for people."""
    if isinstance(rule, SniRule):
        parts = [f"server name {_text(rule.sni)}"] if rule.sni else []
        parts += [f"ALPN {', '.join(sorted(map(_text, rule.alpn)))}"] if rule.alpn else []
        return " and ".join(parts) or "every connection"
    parts = [f"host {_text(rule.host)}"] if rule.host else []
    parts += [f"path {_text(rule.path_prefix)}"] if rule.path_prefix else []
    parts += [f"{_text(name)}: {_text(value)}" for name, value in rule.headers]
    parts += [f"{_text(fact[1:]).replace('-', ' ').replace(':', ' ', 1)}" for fact in sorted(rule.client)]
    parts += [f"method {', '.join(sorted(map(_text, rule.methods)))}"] if rule.methods else []
    parts += [f"matcher {name}" for name, _ in rule.matchers] if isinstance(rule, MatchedRule) else []
    return " and ".join(parts) or "every request"


def _filters(owner: HttpRoute | HttpProxy) -> tuple[str, ...]:
    """Names of the filters that would run, in their order. They are not asked: they may have effects."""
    return () if owner.filters is None else tuple(name for name, _ in owner.filters.filters)


def _upstream(
    proxy: HttpProxy, route: HttpRoute, chosen: Chosen, head: RequestHead, came: list[bytes]
) -> tuple[tuple[str, ...], tuple[FieldChange, ...]]:
    """The head that the backend is sent, and what is new in it."""
    if chosen.backend is None:
        return (), ()
    host = route.authority(head, chosen.backend)
    lines = write_request(head, host).decode("latin-1").split("\r\n")[:-2]
    sent = list(head.headers.lines)
    before = {line.partition(b":")[0].lower() for line in came}
    after = {line.partition(b":")[0].lower() for line in sent}
    changes = []
    for line in sent:
        if line not in came:
            name, _, value = line.partition(b":")
            changes.append(_change("change" if name.lower() in before else "add", name, value.strip(b" \t")))
    for line in came:
        name = line.partition(b":")[0]
        if name.lower() not in after:
            changes.append(_change("remove", name, b""))
    if host != head.host:
        changes.insert(0, _change("change", b"Host", host))
    return tuple(lines), tuple(changes)


def _change(what: str, name: bytes, value: bytes) -> FieldChange:
    return FieldChange(what, _text(name), _text(value))


def _response_edits(proxy: HttpProxy, route: HttpRoute, chosen: Chosen) -> tuple[FieldChange, ...]:
    edits = [FieldChange(*each) for each in (route.response_edits.listed() if route.response_edits is not None else ())]
    if chosen.sets_cookie:
        edits.append(FieldChange("add", "Set-Cookie", f"{chosen.sets_cookie}=..."))
    if proxy.forwarding.via:
        edits.append(FieldChange("add", "Via", "1.1 balance"))
    return tuple(edits)


# --- mode tcp -------------------------------------------------------------------------------------------------------


def _tcp(assembly: Assembly, question: Question) -> Explanation:
    proxy: Any = assembly.proxy
    hello = question.hello()
    about: dict[str, Any] = {
        "listener": {"name": proxy.name, "mode": "tcp", "address": str(assembly.config.listen)},
        "request": {
            "url": question.url,
            "server_name": hello.server_name if hello else None,
            "alpn": list(question.alpn),
        },
        "client": question.client,
    }
    if hello is None and proxy.routes.asks:
        raise BadQuestion("the routes of this listener go by what TLS asks for: ask with tls://server-name")
    rule = proxy.routes.match(hello)
    about["routes"] = _tried(proxy.routes.ordered, rule, hello)
    if rule is None:
        return Explanation(**about, refusal=_refusal(NoRoute()))
    about["route"] = rule.target.name
    about["timeouts"] = dict(proxy.timeouts)
    chosen = choose(assembly.config, rule.target, None, question.client)
    about |= chosen.parts()
    if chosen.error is not None:
        return Explanation(**about, refusal=_refusal(chosen.error))
    return Explanation(**about, retries=tcp_retry_plan(chosen))


def _refusal(error: ExchangeError) -> Refusal:
    return Refusal(error.status, error.reason, error.detail)


def _text(raw: bytes) -> str:
    return raw.decode("ascii", "backslashreplace")
