"""Tells `twistd` that there is a `balance`."""

from twisted.application.service import ServiceMaker

balance = ServiceMaker("Balance", "balance.tap", "A layer-4 and layer-7 reverse proxy and load balancer.", "balance")
