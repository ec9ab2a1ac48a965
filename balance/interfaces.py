"""Every extension point, as zope interfaces; the built-ins provide the same ones.

Rule of this file: interfaces are checked once, when the configuration is loaded, never on the hot path: what a
factory returned is called directly from then on. All of these run in the reactor's thread and must not block.

Every plugin has two halves. A factory belongs to the configuration: it has names and a schema of its options, and
makes the other half as often as it is asked for. What it makes does the work. A factory is found by its name, through
twisted.plugin in the package `balance.plugins`, or by a dotted path, ``package.module:name``; a dotted path may also
lead to a class (made with its options, or without) or to an object or function that does the work itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zope.interface import Attribute, Interface


class ICandidate(Interface):
    """What a balancer sees of a backend. It reads; it never writes."""

    name = Attribute("str: unique in its configuration, stable over reloads")
    weight = Attribute("int: 0 and up; 0 takes no new work unless nothing else is left")
    active = Attribute("int: requests (HTTP) or connections (TCP) this backend is serving now")


class IBalancer(Interface):
    """One algorithm, with the state of one pool. It knows nothing of HTTP, sockets or health.

    One that fails, or picks what was not offered, takes nobody down: it is logged, and the least busy one taken.
    """

    def set_members(members: Sequence[ICandidate]) -> None:
        """The pool's members, called at the start and whenever backends are added or removed.

        Not called when health changes: expensive structures (a hash ring) are built here.
        """

    def pick(candidates: Sequence[ICandidate], key: bytes) -> ICandidate:
        """Choose one of `candidates`: members that are available now. Called once an attempt; must be fast.

        :param candidates: never empty; the same object as long as availability does not change
        :param key: the hash key of the request, empty where the pool has none
        """


class IExplainedBalancer(IBalancer):
    """Optional: a balancer that can say why. Used by ``balance explain``, on a copy (`copy.deepcopy`) of the balancer
    whose `pick` has just made the choice; a balancer that holds what cannot be copied defines ``__deepcopy__``.
    """

    def why(candidates: Sequence[ICandidate], key: bytes, chosen: ICandidate) -> str:
        """One short sentence for people, such as ``the fewest active requests: 2``."""


class IPluginFactory(Interface):
    """What all factories have in common."""

    names = Attribute("tuple[str, ...]: names in the configuration; the first is the preferred one")


class IBalancerFactory(IPluginFactory):
    """A plugin that adds an algorithm to the configuration, by a name in `load_balancer.algorithm`.

    It may have ``Options``, a pydantic model of what `load_balancer.options` may say.
    """

    needs_key = Attribute("bool: whether `hash_key` has a meaning (source-ip is taken where it is not given)")

    def build(options: Mapping[str, Any]) -> IBalancer:
        """Make the balancer of one pool.

        :param options: `load_factor` (float), `virtual_nodes` (int), `random` (random.Random), and `options`: an
            instance of ``Options``, where there are such
        """


class IAffinity(Interface):
    """Remembers which backend a client belongs to."""

    def recall(head: Any, client_ip: str) -> str | None:
        """The name of the backend this client was bound to, or None."""

    def peek(head: Any, client_ip: str) -> str | None:
        """What `recall` would say, without any effect: for ``balance explain``."""

    def bind(head: Any, client_ip: str, backend_name: str) -> bytes | None:
        """Bind the client to a backend; a `Set-Cookie` value where the client has to remember it itself."""


class IRouteMatcher(Interface):
    """A condition of a route, besides host, path, headers and methods. A plain function may stand for it."""

    def matches(request: Any) -> bool:
        """Whether the route is for this request. Called for every request that the route's other conditions let
        through; must be fast, and is never asynchronous. An exception is logged, and the request answered 500
        (`matcher_error`).

        :param request: `balance.model.RequestHead`, to read. ``X-Real-IP`` among its headers is the client's address,
            as far as trusted proxies vouch for it
        """


class IRouteMatcherFactory(IPluginFactory):
    """A plugin that adds a condition, by a name in `match` of a route."""

    Options = Attribute("type[pydantic.BaseModel] | None: what `options` may say; None: nothing")

    def build(options: Any) -> IRouteMatcher:
        """Make the matcher of one route.

        :param options: an instance of ``Options``; None without
        """


class IFilter(Interface):
    """What sees exchanges on their way, and may change them. Of `IFilterPhases` it has those that it needs, and no
    more: each costs a call.

    Phases may be plain methods, coroutines, or return Deferreds; while one waits, its exchange waits: the body is held
    back, and `timeouts.filter` limits the waiting (504, `filter_timeout`). When the client goes away, what is waited
    for is cancelled. An exception is logged, and the request answered 500 (`filter_error`); an `ExchangeError` is
    answered as its class says. An exception after the response has begun cuts it.

    The filters of the listener come first, then the route's, in the order of the file; phases of the response go
    through them the other way round. `log` is the exception that may not wait.

    ``context`` is always the same `balance.filters.Context` for an exchange. Several exchanges are under way at a time,
    and a filter sees all of them: what belongs to one of them goes into the context (`Context.of`), not into ``self``.

    A plain function may stand for a filter: of `request_head`, or of the phase that `balance.filters.phase` says.
    """


class IFilterPhases(Interface):
    """The phases of an `IFilter`, in the order of an exchange. A filter has at least one of them."""

    def request_head(context: Any) -> Any:
        """The head is complete; the body follows. Of a listener's filter: before the route is looked for.

        :return: None to go on, or a `balance.filters.Answer`: no backend is asked then
        """

    def choose_backends(context: Any, candidates: Sequence[ICandidate]) -> Any:
        """Which backends may serve this request. The route's balancer picks among those that are available.

        :param candidates: the members of the route's pool, or what the filter before has left of them
        :return: None for all of them, or a sequence: fewer, or others (`Context.backends`; among those, the one with
            the fewest requests is taken). None left is answered 503. Where fewer are left and all of them full, the
            request queues for one of those, as others do for any; with others than the route's it is answered 503
        """

    def upstream_request(context: Any, request: Any) -> Any:
        """A backend is chosen (`Context.backend`), and this head will go to it. Once for each attempt.

        :param request: `balance.model.RequestHead`, a copy, after the route's own edits: change its headers and target
        """

    def request_body(context: Any, data: bytes, ended: bool) -> Any:
        """Some of the body has come. Not called for requests without one. What is returned is kept for replays, so a
        replay does not come here again.

        :param ended: this is the last of it; ``data`` may be empty then
        :return: bytes to send in its place; empty to hold it back
        """

    def request_trailers(context: Any, trailers: Any) -> Any:
        """Trailers have come, after the body.

        :param trailers: `balance.model.Headers`, to be changed in place
        """

    def response_head(context: Any, response: Any) -> Any:
        """The head of the final response: a backend's, a filter's `Answer`, or an error's (`Context.error` is set). Or
        of a 101, by which a backend agrees to WebSocket: the last phase then but `log`, and one that cannot wait
        (`filter_error`).

        :param response: `balance.model.ResponseHead`: change its headers and status (of a 101: neither the status nor
            ``Sec-WebSocket-`` fields)
        :return: None, or `balance.filters.PASS_BODY`: this filter's `response_body` is not called for this response
        """

    def response_body(context: Any, data: bytes, ended: bool) -> Any:
        """Some of the body of a backend's response has come. Not called for those that cannot have one, nor for an
        `Answer`. It is as the backend encoded it: who wants to read it removes Accept-Encoding in `upstream_request`.

        :param ended: this is the last of it; ``data`` may be empty then
        :return: bytes to send in its place; empty to hold it back
        """

    def response_trailers(context: Any, trailers: Any) -> Any:
        """Trailers have come, after the body.

        :param trailers: `balance.model.Headers`, to be changed in place
        """

    def error(context: Any, error: Any) -> Any:
        """Balance is about to answer with an error.

        :param error: `balance.errors.ExchangeError`: status, reason, source
        :return: None, or an `Answer` to give instead; the first one counts. If this phase fails itself, that is
            logged, and the error answered as it would have been
        """

    def log(context: Any) -> None:
        """The exchange is over, whatever came of it. Called once for each."""


class IFilterFactory(IPluginFactory):
    """A plugin that adds a filter, by a name in `filters`."""

    Options = Attribute("type[pydantic.BaseModel] | None: what `options` may say; None: nothing")

    def build(options: Any) -> IFilter:
        """Make a filter, once for each place that names it.

        :param options: an instance of ``Options``; None without
        """


class IWebSocketConnection(Interface):
    """An open WebSocket connection, as a filter sees it. Of no use any more after `IWebSocketFilter.closed`."""

    request = Attribute("balance.model.RequestHead: the handshake as it was sent to the backend; to be read only")
    client_ip = Attribute("str: the client's address")
    route = Attribute("str: the name of the route")
    state = Attribute("dict[str, Any]: for filters to keep something in, for as long as the connection lives")

    def send_to_client(data: str | bytes) -> None:
        """Send a message of our own, past all filters: text (str) or binary (bytes). Dropped if the client has gone."""

    def send_to_backend(data: str | bytes) -> None:
        """Likewise, to the backend."""

    def close(code: int = 1000, reason: str = "") -> None:
        """Close it in good order, on both sides. Counted as `websocket_filter_closed`.

        :param code: 1000, 1008 or such, or 3000 to 4999 (RFC 6455, section 7.4)
        :param reason: at most 123 bytes of UTF-8
        """


class IWebSocketFilter(Interface):
    """Sees, changes, drops and answers the messages of WebSocket connections; named by a route's `websocket.filters`.

    One object serves all connections of its route. Messages are complete, decompressed and checked, at most
    `max_message_size` bytes; text is str. An exception ends the connection (1011) and is logged.
    """

    def opened(connection: IWebSocketConnection) -> None:
        """The handshake is done; no message has come yet."""

    def from_client(connection: IWebSocketConnection, data: str | bytes) -> str | bytes | None:
        """A message of the client's. Filters see it in the order of the configuration.

        :returns: what the next filter, or the backend, is given: the same, or another one; None drops it
        """

    def from_backend(connection: IWebSocketConnection, data: str | bytes) -> str | bytes | None:
        """A message of the backend's. Filters see it in the opposite order."""

    def closed(connection: IWebSocketConnection, code: int) -> None:
        """The connection is over.

        :param code: of the first Close frame; 1005 if that had none, 1006 if there was no Close frame
        """


class IWebSocketFilterFactory(IPluginFactory):
    """A plugin that adds a WebSocket filter, by a name in `websocket.filters`."""

    Options = Attribute("type[pydantic.BaseModel] | None: what `options` may say; None: nothing")

    def build(options: Any) -> IWebSocketFilter:
        """Make a filter, once for each route that names it.

        :param options: an instance of ``Options``; None without
        """


class IResourceFactory(IPluginFactory):
    """A plugin that serves a route by itself, by a name in `resource` of the route."""

    Options = Attribute("type[pydantic.BaseModel] | None: what `options` may say; None: nothing")

    def build(options: Any) -> Any:
        """Make the root of a tree of resources, once for each route that names it. It sees whole paths.

        :param options: an instance of ``Options``; None without
        :return: `twisted.web.resource.IResource`. It is rendered when the body of its request has come; it may answer
            later (NOT_DONE_YET), and a producer that it registers is paused when the client reads slowly.
            `timeouts.read` limits its silence (504). It should not block.
        """


class IDiscovery(Interface):
    """Finds backends while Balance runs. They appear in statistics as ``name/backend``."""

    def start(found: Any, reactor: Any) -> Any:
        """Begin. Called once, when Balance starts.

        :param found: call it with a sequence of `balance.model.Discovered`, all that there are now, whenever that may
            have changed, and as often as you like. Backends that are in it again keep their state; those that are not
            get no more work. What makes no sense is logged, and changes nothing
        :param reactor: for timers and connections; in tests a `twisted.internet.task.Clock`
        :return: nothing, or a Deferred. An exception is logged
        """

    def stop() -> Any:
        """End: `found` is not listened to any more. Called once; may return a Deferred."""


class IDiscoveryFactory(IPluginFactory):
    """A plugin that finds backends, by a name in `use` of a listener's `discovery`."""

    Options = Attribute("type[pydantic.BaseModel] | None: what `options` may say; None: nothing")

    def build(options: Any) -> IDiscovery:
        """Make a discovery, once for each place that names it.

        :param options: an instance of ``Options``; None without
        """


class IHealthRule(Interface):
    """What an attempt says about the health of its backend: passive checks count what this calls a failure."""

    def is_failure(status: int, error: Any) -> bool:
        """Called once at the end of each attempt. Must be fast. An exception is logged, and the rule that Balance has
        by itself decides.

        :param status: of the backend's response; 0 if there was none
        :param error: `balance.errors.ExchangeError` that ended the attempt, or None
        :return: whether it counts against the backend. What ended without an error and is no failure counts for it
        """


class IHealthRuleFactory(IPluginFactory):
    """A plugin that judges attempts, by a name in `health_check.rule`."""

    Options = Attribute("type[pydantic.BaseModel] | None: what `options` may say; None: nothing")

    def build(options: Any) -> IHealthRule:
        """Make a rule, once for each listener that names it.

        :param options: an instance of ``Options``; None without
        """


class IStatisticsSink(Interface):
    """Takes statistics to wherever they are wanted. It asks when it wants; no request waits for it."""

    def start(snapshot: Any, reactor: Any) -> Any:
        """Begin. Called once, when Balance starts.

        :param snapshot: call it for the numbers of now: what JSON at ``/status`` has, as dicts and lists. Costs about a
            microsecond for each number
        :param reactor: for timers and connections
        :return: nothing, or a Deferred. An exception is logged
        """

    def stop() -> Any:
        """End. `snapshot` may be called once more. May return a Deferred, which the end of Balance waits for."""


class IStatisticsSinkFactory(IPluginFactory):
    """A plugin that takes statistics, by a name in `statistics`."""

    Options = Attribute("type[pydantic.BaseModel] | None: what `options` may say; None: nothing")

    def build(options: Any) -> IStatisticsSink:
        """Make a sink, once for each place that names it.

        :param options: an instance of ``Options``; None without
        """
