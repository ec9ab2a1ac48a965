"""The testing kit under pytest, as third parties write their tests: plain functions, plain asserts."""

from __future__ import annotations

import pytest

from balance.embedded import Embedded
from balance.http.proxy import HttpProxy
from balance.testing import Application, Refuse


@pytest.fixture
def app() -> Application:
    return Application("backends: [{name: a, address: '10.0.0.1:80'}, {name: b, address: '10.0.0.2:80'}]")


def test_a_request(app: Application) -> None:
    call = app.get("http://a.example/x", client="198.51.100.7")
    assert (call.status, call.backend) == (200, "a")
    assert call.upstream.headers["X-Forwarded-For"] == "198.51.100.7"


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_backend_that_is_down(app: Application, name: str) -> None:
    app.backends[name].always(Refuse())
    assert name not in {app.get("/").backend for _ in range(4)}


def test_embedded_by_listener() -> None:
    service = Embedded(
        {
            "backends": [{"name": "a", "address": "10.0.0.1:80"}],
            "listeners": [
                {"name": "db", "mode": "tcp", "listen": ":81"},
                {"name": "web", "listen": ":80"},
                {"name": "api", "listen": ":82"},
            ],
        }
    )
    for name, found in (("", "web"), ("web", "web"), ("api", "api")):
        proxy = service.resource(name)._proxy
        assert isinstance(proxy, HttpProxy)
        assert proxy.name == found
    for name in ("db", "nobody"):
        with pytest.raises(ValueError, match=name):
            service.resource(name)
