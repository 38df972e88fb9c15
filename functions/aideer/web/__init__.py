"""HTTP: the resolver, the ASGI app, validation, pagination, and ETags."""
