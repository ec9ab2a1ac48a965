"""What follows a switch of protocols: tunnels, or messages where a route asks for anything about those."""
