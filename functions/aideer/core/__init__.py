"""The base of all other folders: settings, the clock, errors, AWS clients, and metrics."""
