"""Authentication, passwords, rate limits, and the audit trail."""
