"""Clients of the API: `make chat` and `make demo`."""
