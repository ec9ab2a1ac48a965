"""A filter that replaces a text in pages, as they pass."""

from pydantic import BaseModel, ConfigDict, Field

from balance.filters import PASS_BODY, Context, Filter, PassBody
from balance.model import RequestHead, ResponseHead


class ReplaceText(Filter):
    """Replaces a text in bodies of one type. Nothing is kept but the end of a piece that may be the beginning of the
    text.
    """

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid")

        search: str = Field(min_length=1)
        replace: str
        content_type: str = "text/html"

    class Rest:
        """Of one response: what may be the beginning of the text."""

        def __init__(self) -> None:
            self.data = b""

    def __init__(self, options: Options) -> None:
        self._search = options.search.encode()
        self._replace = options.replace.encode()
        self._type = options.content_type.encode()

    def upstream_request(self, context: Context, request: RequestHead) -> None:
        """Ask for a body that can be read, and for the whole of it."""
        request.headers.remove(b"accept-encoding")
        request.headers.remove(b"range")

    def response_head(self, context: Context, response: ResponseHead) -> PassBody | None:
        kind = response.headers.get(b"content-type") or b""
        if not kind.lower().startswith(self._type) or b"content-encoding" in response.headers:
            return PASS_BODY
        for name in (b"etag", b"accept-ranges", b"content-md5"):  # they speak of other bytes
            response.headers.remove(name)
        return None

    def response_body(self, context: Context, data: bytes, ended: bool) -> bytes:
        rest = context.of(self.Rest)
        data = (rest.data + data).replace(self._search, self._replace)
        if ended:
            return data
        keep = self._begun(data)
        rest.data = data[len(data) - keep :]
        return data[: len(data) - keep]

    def _begun(self, data: bytes) -> int:
        """How many bytes at the end may be the beginning of the text."""
        for size in range(min(len(self._search) - 1, len(data)), 0, -1):
            if data.endswith(self._search[:size]):
                return size
        return 0
