"""The prompt of a task, and its size in tokens."""
