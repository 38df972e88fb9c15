"""Prices, credits, the ledger, redeem codes, and the checks of all of them."""
