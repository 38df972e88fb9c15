"""Tools for changing the project: `make new-endpoint`."""
