"""Routes that no backend serves."""

from pydantic import BaseModel, ConfigDict
from twisted.web.resource import Resource
from twisted.web.server import Request


class Maintenance(Resource):
    """Any twisted.web resource will do. This one says that we will be back."""

    isLeaf = True

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid")

        text: str = "We will be back soon."
        retry_after: int = 60

    def __init__(self, options: Options) -> None:
        super().__init__()
        self._options = options

    def render(self, request: Request) -> bytes:
        request.setResponseCode(503)
        request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
        request.setHeader(b"Retry-After", b"%d" % self._options.retry_after)
        return self._options.text.encode() + b"\n"
