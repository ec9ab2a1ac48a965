"""What a scenario file may say: every key, its type, default, unit and meaning.

Rule of this file: as `balance.config.schema`: it is the only list of keys, and every mistake is told with its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from balance.config.document import Document
from balance.config.errors import ConfigError, Problem
from balance.config.messages import message as told
from balance.config.section import Section
from balance.config.values import Duration, found
from balance.explain.question import BadQuestion, Question
from balance.simulate.distributions import Quantiles, constant, exponential, lognormal, uniform


class Latency(Section):
    """Seconds from a request to its answer, in a backend that has nothing else to do."""

    distribution: Literal["constant", "uniform", "exponential", "lognormal"] = Field(
        default="constant", description="`constant` (value), `uniform` (min, max), `exponential` (mean), `lognormal`."
    )
    value: Duration | None = Field(default=None, gt=0, description="`constant`.")
    min: Duration | None = Field(default=None, gt=0, description="`uniform`.")
    max: Duration | None = Field(default=None, gt=0, description="`uniform`.")
    mean: Duration | None = Field(default=None, gt=0, description="`exponential`.")
    median: Duration | None = Field(default=None, gt=0, description="`lognormal`: half of the answers are faster.")
    p99: Duration | None = Field(default=None, gt=0, description="`lognormal`: one answer in a hundred is slower.")

    @property
    def quantiles(self) -> Quantiles:
        """The distribution itself."""
        if self.distribution == "constant":
            return constant(self.value or 0.0)
        if self.distribution == "uniform":
            return uniform(self.min or 0.0, self.max or 0.0)
        if self.distribution == "exponential":
            return exponential(self.mean or 0.0)
        return lognormal(self.median or 0.0, self.p99 or 0.0)


_NEEDED = {
    "constant": ("value",),
    "uniform": ("min", "max"),
    "exponential": ("mean",),
    "lognormal": ("median", "p99"),
}


def _latency(value: Any) -> Any:
    """``20ms`` is short for a constant."""
    return {"distribution": "constant", "value": value} if isinstance(value, str | int | float) else value


def _whole(value: Latency) -> Latency:
    needed = _NEEDED[value.distribution]
    if {key for key in Latency.model_fields if key != "distribution" and getattr(value, key) is not None} != set(
        needed
    ):
        raise ValueError(f"a {value.distribution} latency needs {' and '.join(needed)}, and nothing else")
    low, high = getattr(value, needed[0]), getattr(value, needed[-1])
    if low > high:
        raise ValueError(f"{needed[-1]} is below {needed[0]}")
    return value


LatencyValue = Annotated[Latency, BeforeValidator(_latency), AfterValidator(_whole)]


class KeysConfig(Section):
    """How many different things there are, and how often each comes."""

    count: int = Field(default=1000, ge=1, le=1_000_000, description="How many.")
    distribution: Literal["uniform", "zipf"] = Field(default="uniform", description="`uniform`: all alike; or `zipf`.")
    exponent: float = Field(default=1.0, gt=0, le=5, strict=False, description="Of `zipf`.")


class RequestConfig(Section):
    """A class of requests. ``{key}`` in its URL and headers is one of `keys`."""

    name: str = Field(min_length=1, description="For the tables.", examples=["cart"])
    share: float = Field(default=1.0, gt=0, strict=False, description="How many of all requests, beside the others.")
    method: str = Field(default="GET", description="Its method.")
    url: str = Field(description="`http://host/path`.", examples=["http://shop.example/cart/{key}"])
    headers: dict[str, str] = Field(default_factory=dict, description="Its fields.", examples=[{"X-Tenant": "{key}"}])
    keys: KeysConfig = Field(default=KeysConfig(), description="What `{key}` stands for: `k1`, `k2`, ...")
    clients: int = Field(default=1000, ge=1, le=131_072, description="Addresses that such requests come from.")


class BackendTraits(Section):
    """How a backend behaves. ``*`` speaks of all that are not named."""

    latency: LatencyValue = Field(
        default=Latency(value=0.01), description="How long it takes; `20ms`, or a distribution."
    )

    @property
    def latency_given(self) -> bool:
        """Whether the file says it."""
        return "latency" in self.model_fields_set

    connect: Duration = Field(default=0.0005, ge=0, description="Opening a connection.")
    workers: int = Field(
        default=0, ge=0, description="Requests it works on at a time; more wait inside it. 0: no limit."
    )


class FailureConfig(Section):
    """Something goes wrong with a backend for a while."""

    backend: str = Field(description="Its name, or `*` for all.")
    at: Duration = Field(ge=0, description="When it begins.")
    until: Duration = Field(gt=0, description="When it is over.")
    kind: Literal["refuse", "blackhole", "reset", "silent", "error", "slow"] = Field(
        description="`refuse`: it is down. `blackhole`: connections are not answered. `reset`: requests are broken "
        "off. `silent`: requests are not answered before it is over. `error`: status 500. `slow`: latency times "
        "`factor`."
    )
    share: float = Field(default=1.0, gt=0, le=1, strict=False, description="Of the requests that meet it.")
    factor: float = Field(default=10.0, gt=0, strict=False, description="`slow`.")


class RateStep(Section):
    """Requests a second from some time on."""

    at: Duration = Field(ge=0, description="Since the start.")
    rate: float = Field(ge=0, le=1_000_000, strict=False, description="Requests a second.")


class Scenario(Section):
    """The file."""

    duration: Duration = Field(default=60.0, gt=0, le=86_400, description="How long requests keep coming.")
    rate: float = Field(default=100.0, gt=0, le=1_000_000, strict=False, description="Requests a second.")
    steps: tuple[RateStep, ...] = Field(default=(), description="Other rates, from some times on.")
    arrivals: Literal["poisson", "even"] = Field(default="poisson", description="By chance, or evenly.")
    seed: int = Field(default=1, description="Of all chance: the same seed, the same run.")
    requests: tuple[RequestConfig, ...] = Field(default=(), description="Classes of requests.")
    log: str = Field(default="", description="An access log to replay, in place of `requests`.")
    speed: float = Field(default=1.0, gt=0, le=1000, strict=False, description="`log`: times as fast as it was.")
    host: str = Field(default="localhost", description="`log`: Host of requests where the log does not tell.")
    backends: dict[str, BackendTraits] = Field(default_factory=dict, description="How they behave, by name.")
    failures: tuple[FailureConfig, ...] = Field(default=(), description="What goes wrong, and when.")


def load_scenario(path: str) -> Scenario:
    """Read a scenario file.

    :raises ConfigError: it cannot be read, or something in it is wrong
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(path, [Problem(0, 0, "", f"cannot be read: {error}")]) from None
    return loads_scenario(text, path)


def loads_scenario(text: str, source: str = "<text>") -> Scenario:
    """Like `load_scenario`, from text.

    :raises ConfigError: something in it is wrong
    """
    document = Document(text, source)
    problems = document.problems
    scenario = None
    try:
        scenario = Scenario.model_validate(_tuples(document.data), context={})
    except ValidationError as error:
        for each in error.errors():
            unknown = each["type"] == "extra_forbidden"
            problems.append(document.problem(each["loc"], told(dict(each), Scenario), at_key=unknown))
    else:
        problems += _check(document, scenario)
    if problems or scenario is None:
        raise ConfigError(source, problems)
    return scenario


def _check(document: Document, scenario: Scenario) -> Iterator[Problem]:
    if bool(scenario.requests) == bool(scenario.log):
        yield document.problem((), "either 'requests' or 'log' is needed")
    names = [request.name for request in scenario.requests]
    for index, request in enumerate(scenario.requests):
        if request.name in names[:index]:
            yield document.problem(("requests", index, "name"), f"{found(request.name)}; the name is taken already")
        try:
            Question(request.url.replace("{key}", "k1"), request.method).block()
        except BadQuestion as error:
            yield document.problem(("requests", index, "url"), str(error))
    for index, failure in enumerate(scenario.failures):
        if failure.until <= failure.at:
            yield document.problem(("failures", index, "until"), "it is over before it begins")
        if failure.share < 1 and failure.kind in ("refuse", "blackhole"):
            message = f"a share has no meaning for {failure.kind}, which befalls the whole backend"
            yield document.problem(("failures", index, "share"), message)
    times = [step.at for step in scenario.steps]
    if times != sorted(times):
        yield document.problem(("steps",), "the steps are not in the order of their times")


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(each) for key, each in value.items()}
    return tuple(_tuples(each) for each in value) if isinstance(value, list) else value
