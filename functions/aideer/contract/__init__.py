"""The shapes of the HTTP contract: what requests and answers hold. docs/api.md is their description in words."""
