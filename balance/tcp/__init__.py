"""Layer 4: connections are routed and balanced, and their bytes relayed as they are."""
