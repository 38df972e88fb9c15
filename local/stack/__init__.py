"""The stack of `make run`: its processes, its API Gateway, its event sources, and its AWS."""
