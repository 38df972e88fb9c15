"""The generators of the OpenAPI document and of docs/api.md."""
