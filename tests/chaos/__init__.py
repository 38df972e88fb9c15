"""Nothing lost, nothing paid twice: AIDeer under faults. `python -m tests.chaos` is the long run; pytest runs the short one."""
