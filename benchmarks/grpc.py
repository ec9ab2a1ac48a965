"""gRPC calls: a server and a load of unary calls, both by grpcio.

python -m benchmarks.grpc server PORT
python -m benchmarks.grpc load PORT SECONDS     prints one line of JSON
"""

from __future__ import annotations

import json
import sys
import time
from concurrent import futures
from typing import Any

import grpc

METHOD = "/bench.Echo/Say"
#: Calls under way at a time.
CALLS = 64
MESSAGE = b"x" * 65


class _Echo(grpc.GenericRpcHandler):
    def service(self, call: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request)


def serve(port: int) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[_Echo()])
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


def load(port: int, seconds: float) -> dict[str, float]:
    """Unary calls, `CALLS` at a time; each has to be answered."""
    times = []
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        say = channel.unary_unary(METHOD)
        say(MESSAGE, timeout=10)
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            first = time.monotonic()
            for call in [say.future(MESSAGE, timeout=10) for _ in range(CALLS)]:
                if call.result() != MESSAGE:
                    raise RuntimeError("another answer")
            times.append(time.monotonic() - first)
        took = time.monotonic() - began
    times.sort()
    calls = len(times) * CALLS
    return {"calls": calls, "rate": calls / took, "p50": times[len(times) // 2], "p99": times[-1 - len(times) // 100]}


if __name__ == "__main__":
    if sys.argv[1] == "server":
        serve(int(sys.argv[2]))
    else:
        print(json.dumps(load(int(sys.argv[2]), float(sys.argv[3]))))
