"""Every plugin of this package, in a whole Balance in memory: no sockets, no waiting."""

from collections.abc import Callable
from typing import Any

from treq.testing import StubTreq
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from acme_balance import auth
from acme_balance.chat import Moderator
from balance.testing import Application, Call, Reply

CONFIG = {
    "backends": [
        {"name": "one", "address": "h:1"},
        {"name": "two", "address": "h:2"},
        {"name": "three", "address": "h:3"},
    ],
}


def application(**route: Any) -> Application:
    names = [backend["name"] for backend in CONFIG["backends"]]
    return Application({**CONFIG, "http": {"routes": [{"name": "r", "backends": names, **route}]}})


class Connection:
    """What a WebSocket filter sees of a connection."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.told: list[str | bytes] = []
        self.closed: tuple[int, str] | None = None

    def send_to_client(self, data: str | bytes) -> None:
        self.told.append(data)

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.closed = code, reason


class Chat(SynchronousTestCase):
    """A filter's methods are plain functions of messages: no sockets are needed to test them."""

    def setUp(self) -> None:
        self.filter = Moderator(Moderator.Options(hide=("rats",), most=3))
        self.connection = Connection()
        self.filter.opened(self.connection)

    def say(self, data: str | bytes) -> str | bytes | None:
        return self.filter.from_client(self.connection, data)

    def test_words_are_hidden(self) -> None:
        self.assertEqual(self.say("oh rats!"), "oh ****!")
        self.assertEqual(self.say(b"rats"), b"rats")

    def test_a_command_is_answered(self) -> None:
        self.say("hello")
        self.assertIsNone(self.say("/count"))
        self.assertEqual(self.connection.told, ["2"])

    def test_enough_is_enough(self) -> None:
        self.assertEqual([self.say("x") for _ in range(4)], ["x", "x", "x", None])
        self.assertEqual(self.connection.closed, (1008, "enough said"))


class Policies(SynchronousTestCase):
    def setUp(self) -> None:
        self.app = application(
            load_balancer={"algorithm": "acme_balance.policies:StickyByTenant", "hash_key": "header:X-Tenant"}
        )

    def serving(self, tenant: str) -> str | None:
        return self.app.get("http://x/", headers={"X-Tenant": tenant}).backend

    def test_a_tenant_keeps_its_backend(self) -> None:
        tenants = [f"t{n}" for n in range(30)]
        before = {tenant: self.serving(tenant) for tenant in tenants}
        self.assertEqual(set(before.values()), {"one", "two", "three"})
        self.assertEqual({tenant: self.serving(tenant) for tenant in tenants}, before)
        self.app.member("one").set_enabled(False)
        after = {tenant: self.serving(tenant) for tenant in tenants}
        moved = {tenant for tenant in tenants if before[tenant] != after[tenant]}
        self.assertEqual(moved, {tenant for tenant in tenants if before[tenant] == "one"})


class Matchers(SynchronousTestCase):
    def test_from_inside(self) -> None:
        app = application(match=["acme_balance.match:from_inside"])
        self.assertEqual(app.get("http://x/", client="10.1.2.3").status, 200)
        self.assertEqual(app.get("http://x/", client="198.51.100.7").status, 404)
        self.assertEqual(app.get("http://x/", client="198.51.100.7", headers={"X-Real-IP": "10.1.2.3"}).status, 404)

    def test_of_tenants(self) -> None:
        app = application(match=[{"use": "acme_balance.match:OfTenants", "options": {"tenants": ["a", "b"]}}])
        self.assertEqual(app.get("http://x/", headers={"X-Tenant": "b"}).status, 200)
        self.assertEqual(app.get("http://x/", headers={"X-Tenant": "c"}).status, 404)


class WhoAmI(Resource):
    """The service that knows tokens."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.answer: Callable[[Request], Any] | None = None

    def render_GET(self, request: Request) -> Any:
        self.asked += 1
        if self.answer is not None:
            return self.answer(request)
        if request.getHeader(b"Authorization") != b"Bearer good":
            request.setResponseCode(401)
            return b""
        return b"ann\n"


class Auth(SynchronousTestCase):
    def setUp(self) -> None:
        self.service = WhoAmI()
        self.stub = StubTreq(self.service)
        self.patch(auth, "http_client", lambda: self.stub)
        use = {"use": "acme_balance.auth:RequireToken", "options": {"url": "http://auth/", "remember": "30s"}}
        self.app = application(filters=[use])

    def ask(self, token: str = "", **headers: str) -> Call:
        if token:
            headers["Authorization"] = f"Bearer {token}"
        call = self.app.start("GET", "http://x/", headers=headers)
        self.app.settle()
        self.stub.flush()
        return self.app.finish(call)

    def test_a_good_token(self) -> None:
        call = self.ask("good", **{"X-User": "root"})
        self.assertEqual((call.status, call.upstream.headers.all("X-User")), (200, ["ann"]))

    def test_others(self) -> None:
        self.assertEqual([self.ask("bad").status, self.ask().status], [401, 401])
        self.assertEqual(self.service.asked, 1)

    def test_answers_are_remembered(self) -> None:
        for _ in range(3):
            self.ask("good")
            self.ask("bad")
        self.assertEqual(self.service.asked, 2)
        self.app.advance(31)
        self.ask("good")
        self.assertEqual(self.service.asked, 3)

    def test_a_service_that_fails(self) -> None:
        def fail(request: Request) -> bytes:
            request.setResponseCode(500)
            return b""

        self.service.answer = fail
        self.assertEqual(self.ask("good").status, 503)
        self.service.answer = None
        self.assertEqual(self.ask("good").status, 200)

    def test_a_service_that_does_not_answer(self) -> None:
        self.service.answer = lambda request: NOT_DONE_YET
        call = self.ask("good")
        self.assertEqual((call.status, call.reason), (504, "filter_timeout"))


class Rewrite(SynchronousTestCase):
    def setUp(self) -> None:
        options = {"search": "internal", "replace": "www"}
        self.app = application(
            filters=[{"use": "acme_balance.rewrite:ReplaceText", "options": options}], backends=["one"]
        )

    def rewritten(self, *pieces: str, kind: str = "text/html") -> Call:
        reply = Reply(chunks=[(0, piece) for piece in pieces], headers={"Content-Type": kind, "ETag": '"1"'})
        self.app.backends["one"].always(reply)
        return self.app.get("http://x/", headers={"Accept-Encoding": "gzip"})

    def test_a_text_in_one_piece(self) -> None:
        call = self.rewritten("from internal to internal")
        self.assertEqual((call.text, "ETag" in call.headers), ("from www to www", False))
        self.assertNotIn("Accept-Encoding", call.upstream.headers)

    def test_a_text_cut_anywhere(self) -> None:
        text = "interinternal internal int"
        for cut in range(1, len(text)):
            self.assertEqual(self.rewritten(text[:cut], text[cut:]).text, "interwww www int", cut)

    def test_other_types_pass(self) -> None:
        call = self.rewritten("internal", kind="image/png")
        self.assertEqual((call.text, call.headers["ETag"]), ("internal", '"1"'))


class Pages(SynchronousTestCase):
    def test_maintenance(self) -> None:
        app = Application({"http": {"routes": [{"name": "m", "resource": {"use": "acme_balance.pages:Maintenance"}}]}})
        call = app.get("http://x/shop")
        self.assertEqual((call.status, call.text, call.headers["Retry-After"]), (503, "We will be back soon.\n", "60"))
