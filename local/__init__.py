"""The stack that `make run` starts on one machine. A development dependency: nothing in functions/ imports it."""
