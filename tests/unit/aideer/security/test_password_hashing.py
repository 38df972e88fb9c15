"""Passwords are hashed as a deployment hashes them. Other tests use cheap hashes: tests/conftest.py."""

import importlib.util
from types import ModuleType

import pytest

from aideer.security import password_hashing

PARAMETERS = "$argon2id$v=19$m=19456,t=2,p=1$"
"""OWASP's: 19 MiB, 2 passes, 1 lane (Password Storage Cheat Sheet)."""


@pytest.fixture(scope="module")
def deployed() -> ModuleType:
    """The module as a function loads it."""
    spec = importlib.util.find_spec("aideer.security.password_hashing")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_hash_costs_what_is_recommended(deployed: ModuleType) -> None:
    stored = deployed.hash_password("secret-123")
    assert stored.startswith(PARAMETERS)
    assert deployed.is_match(stored, "secret-123")
    assert not deployed.is_match(stored, "secret-124")


def test_the_hash_that_stands_in_for_nobodys_is_as_slow_as_a_real_one(deployed: ModuleType) -> None:
    assert deployed._NOBODYS.startswith(PARAMETERS)
    assert not deployed.is_match(None, "secret-123")


def test_a_hash_names_its_own_cost_so_cheap_ones_of_tests_verify_anywhere(deployed: ModuleType) -> None:
    cheap = password_hashing.hash_password("secret-123")
    assert not cheap.startswith(PARAMETERS)
    assert deployed.is_match(cheap, "secret-123")
