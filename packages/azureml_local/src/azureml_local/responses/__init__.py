"""HTTP: one module per resource kind, reading requests and writing Azure-shaped answers."""
