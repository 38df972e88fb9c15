"""GET /api/v1/prices: the prices of answers, by model."""

from aideer.billing import pricing
from aideer.schemas.credits import PricesResponse
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.get("/api/v1/prices", **describe("List the prices", public=True))
def list_prices() -> PricesResponse:
    """List all models with their prices, limits and abilities. Retired models are included, and marked as retired."""
    return PricesResponse.model_validate(pricing.publish())
