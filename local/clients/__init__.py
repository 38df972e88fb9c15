"""Clients of the API: `make chat`, `make demo` and `make bench`."""
