"""AIDeer: the backend of an AI chat product. Handlers live beside this package, one file an endpoint."""

__version__ = "0.1.0"
