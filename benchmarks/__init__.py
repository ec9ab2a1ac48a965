"""What a request costs: Balance beside nginx, HAProxy and `twisted.web.proxy`, in one run.

    python -m benchmarks --help

The figure is CPU time (user + system, of the proxy's whole process tree) for each request, because that is what a
machine pays, and because it wanders far less than requests a second do. Peers take turns, round by round, so that
whatever else the machine does falls on all of them.
"""
