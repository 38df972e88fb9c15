"""Build, `make sam`, deployment, and the packages that they need."""
