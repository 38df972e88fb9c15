"""What a request's headers say of its way here, and what of it is believed."""

import hmac

import pytest

from aideer.core import settings
from aideer.core.errors import Forbidden
from aideer.security.rate_limits import UNKNOWN, normalize_address
from aideer.web import origin

OLD, NEW = "o" * 48, "n" * 48


@pytest.fixture(autouse=True)
def rotation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The moment in which CloudFront still sends the old secret to some, and the new one to others."""
    monkeypatch.setattr(settings, "ORIGIN_SECRETS", (NEW, OLD))


def sent(secret: str, address: str = "198.51.100.7") -> dict[str, str]:
    return {origin.SECRET_HEADER: secret, origin.ADDRESS_HEADER: address}


@pytest.mark.parametrize("secret", [OLD, NEW])
def test_both_secrets_of_a_rotation_are_right(secret: str) -> None:
    assert origin.viewer_address(sent(secret), "203.0.113.1") == "198.51.100.7"


@pytest.mark.parametrize("secret", ["", "wrong", NEW[:-1], NEW + "n", f"{NEW},{NEW}", "ü" * 48, f"{NEW} {OLD}"])
def test_an_address_beside_any_other_secret_is_not_believed(secret: str) -> None:
    assert origin.viewer_address(sent(secret), "203.0.113.1") == "203.0.113.1"


def test_without_a_domain_no_secret_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "ORIGIN_SECRETS", ())
    for secret in ("", "none", NEW):
        assert not origin.came_through_domain(sent(secret))


@pytest.mark.parametrize(
    "address", ["", "unknown", "198.51.100.7:443", "[2001:db8::1]:443", "1.2.3.4, 5.6.7.8", "٣.٣.٣.٣"]
)
def test_what_is_no_address_counts_as_one_caller(address: str) -> None:
    assert normalize_address(origin.viewer_address(sent(NEW, address), "203.0.113.1")) == UNKNOWN


def test_the_comparison_takes_as_long_for_every_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    compare = hmac.compare_digest
    monkeypatch.setattr(origin.hmac, "compare_digest", lambda a, b: compared.append(b) or compare(a, b))
    for secret in (OLD, NEW, "wrong"):
        compared.clear()
        origin.came_through_domain(sent(secret))
        assert compared == [NEW.encode(), OLD.encode()]


def test_only_a_firewall_requires_the_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    origin.require_domain({})
    monkeypatch.setattr(settings, "DOMAIN_REQUIRED", True)
    origin.require_domain(sent(OLD))
    with pytest.raises(Forbidden) as refused:
        origin.require_domain(sent("wrong"))
    assert refused.value.code == "domain_required"


def test_an_address_of_ours_is_the_configured_one_or_the_one_that_was_called() -> None:
    origin.remember_called("a1.execute-api.cn-north-1.amazonaws.com.cn")
    assert origin.base_url("https://chat.example.com") == "https://chat.example.com"
    assert origin.base_url("") == "https://a1.execute-api.cn-north-1.amazonaws.com.cn"
    origin.remember_called("")
    assert origin.base_url("") == ""
