"""Figures: what the gateway and the processes say about themselves, as Azure Monitor would serve them."""
