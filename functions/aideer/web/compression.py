"""Which content coding a client accepts (RFC 9110, section 12.5.3)."""


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Return whether the client accepts gzip, with at least the weight of no compression.

    A client that refuses everything (`*;q=0`) gets the plain text: section 12.4.1 lets a server disregard the header.
    """
    weights: dict[str, float] = {}
    for part in (accept_encoding or "").split(","):
        coding, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weights.setdefault("gzip" if coding == "x-gzip" else coding, _weight(parameters))
    gzipped = weights.get("gzip", weights.get("*", 0.0))
    return gzipped > 0 and gzipped >= weights.get("identity", 0.0)


def _weight(parameters: list[str]) -> float:
    """Return the `q` among a coding's parameters, or 1 without one. A `q` that is no number from 0 to 1 counts as a refusal."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                weight = float(value)
            except ValueError:
                return 0.0
            return weight if 0 <= weight <= 1 else 0.0
    return 1.0
