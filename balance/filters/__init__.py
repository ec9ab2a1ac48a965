"""What filters are written with. See `balance.interfaces.IFilter` for the phases, and doc/extending.md for a tutorial.

    from balance.filters import Answer, Context

    def require_token(context: Context) -> Answer | None:
        if b"authorization" in context.request.headers:
            return None
        return Answer(401, "a token is needed", {"WWW-Authenticate": "Bearer"})

Rule of this package: no sockets, no reactor. A filter can be tested with objects made by hand.
"""

from balance.filters.answer import Answer
from balance.filters.base import PASS_BODY, PHASES, Filter, PassBody, phase
from balance.filters.context import Context

__all__ = ["PASS_BODY", "PHASES", "Answer", "Context", "Filter", "PassBody", "phase"]
