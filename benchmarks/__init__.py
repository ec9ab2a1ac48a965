"""What a request costs: Balance beside nginx, HAProxy and `twisted.web.proxy`, in one run.

    python -m benchmarks --help

The figure is CPU time (user + system, of the proxy's whole process tree) for each request, because that is what a
machine pays, and because it wanders far less than requests a second do. Peers take turns, round by round, so that
whatever else the machine does falls on all of them.

On a virtual machine whose neighbours share its cores, the same loop of Python costs up to twice as much from one second
to the next, and an interpreter suffers more from that than a small C program. So the tables have the round that was
disturbed least beside the median: take many short rounds (`--rounds 8 --duration 1`) and compare least with least.
"""
