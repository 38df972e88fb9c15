"""The request and response models of the API. docs/api.md describes them in words."""
