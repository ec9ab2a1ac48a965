"""From a configuration to the objects that serve it.

Rule of this package: this is where names turn into objects, once, at the start. Nothing here opens a socket, and
nothing but this, and what it asks (`balance.groups`, `reach`, `secure` and `sessions`), knows both the configuration
and what it configures.

    listeners    every listener of a file; the routes of one, in order
    tcp, http    one listener of that mode
    routes       of mode http
    websocket    what those say about it
    affinity     who remembers clients
    build        what all of that starts from
"""

from balance.assembly.build import Assembly
from balance.assembly.listeners import assemble, assemble_all, ordered_routes

__all__ = ["Assembly", "assemble", "assemble_all", "ordered_routes"]
