"""What Balance would do with a request, and why: the routes, candidates, choices and rules of the server, asked without
an effect. See doc/explain.md.

    explanation = explain(assemblies, Question("http://shop.example/cart", headers=[("X-Tenant", "t1")]))
    explanation.route, explanation.choice.backend
    print(render(explanation))
"""

from balance.explain.answer import explain
from balance.explain.model import Explanation
from balance.explain.offline import offline
from balance.explain.question import BadQuestion, Question
from balance.explain.text import render

__all__ = ["BadQuestion", "Explanation", "Question", "explain", "offline", "render"]
