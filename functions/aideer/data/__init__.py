"""The tables, transactions, jobs, and idempotency keys."""
