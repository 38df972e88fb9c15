"""`make bench`: the time that AIDeer adds to the provider's, beside what other servers add."""
