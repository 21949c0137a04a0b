"""Who gets a token: backends by key, pages by site, and nobody by both or by a trick."""

from __future__ import annotations

import hashlib

import pytest

from parley_common.errors import PeerViolation
from parley_gateway.token_access import ApiKey, TokenAccess

SECRET = "5f0c9a8be1d24c67"
KEY = ApiKey("cap", "crm", hashlib.sha256(SECRET.encode()).hexdigest())
SITE, SHOP = "https://www.example.com", "https://shop.example.com:8443"
PRODUCTION = TokenAccess((SITE,), {"cap": (SHOP,)}, (KEY,), is_open=False)
DEVELOPMENT = TokenAccess(trusts_loopback=True)
HOST = {"host": "voice.example.com"}


def code(access: TokenAccess, headers: dict[str, str], business: str = "cap") -> str:
    with pytest.raises(PeerViolation) as caught:
        access.check(HOST | headers, business)
    return caught.value.stable_code


def test_a_backend_with_the_key_of_a_business_gets_a_token_for_no_origin() -> None:
    assert PRODUCTION.check({"authorization": f"Bearer {SECRET}"}, "cap") is None
    assert PRODUCTION.check({"authorization": f"bearer  {SECRET} "}, "cap") is None


@pytest.mark.parametrize(
    "shown",
    [
        "Bearer wrong",
        f"Basic {SECRET}",
        SECRET,
        "Bearer",
        "",
        f"Bearer {KEY.sha256}",
        "Bearer " + "x" * 10_000,
        "Bearer \N{SNOWMAN}",
    ],
)
def test_what_is_no_key_is_refused(shown: str) -> None:
    assert code(PRODUCTION, {"authorization": shown}) == "api_key_invalid"


def test_a_key_of_one_business_opens_no_other() -> None:
    assert code(PRODUCTION, {"authorization": f"Bearer {SECRET}"}, "oak") == "api_key_invalid"


def test_a_wrong_key_is_not_made_good_by_an_allowed_site() -> None:
    assert code(PRODUCTION, {"authorization": "Bearer wrong", "origin": SITE}) == "api_key_invalid"
    assert code(DEVELOPMENT, {"authorization": "Bearer wrong"}) == "api_key_invalid"


def test_sites_of_the_deployment_open_every_business_and_sites_of_a_business_only_that() -> None:
    assert PRODUCTION.check(HOST | {"origin": SITE}, "oak") == SITE
    assert PRODUCTION.check(HOST | {"origin": SHOP}, "cap") == SHOP
    assert code(PRODUCTION, {"origin": SHOP}, "oak") == "origin_not_allowed"


def test_our_own_page_may() -> None:
    own = "https://voice.example.com"
    assert PRODUCTION.check(HOST | {"origin": own}, "cap") == own


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "https://www.example.com.evil.example",
        "https://evil.example#https://www.example.com",
        "https://www.example.com@evil.example",
        "http://www.example.com",
        "https://www.example.com:444",
        "HTTPS://WWW.EXAMPLE.COM",
        "http://localhost:3000",
        "https://[::1",
    ],
)
def test_no_trick_with_an_origin_gets_a_token(origin: str) -> None:
    assert code(PRODUCTION, {"origin": origin}) == "origin_not_allowed"


def test_in_production_a_program_needs_a_key() -> None:
    assert code(PRODUCTION, {}) == "unauthorized"
    assert DEVELOPMENT.check({}, "cap") is None


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:5173", "http://[::1]:1"])
def test_in_development_pages_of_this_machine_may_and_others_may_not(origin: str) -> None:
    assert DEVELOPMENT.check(HOST | {"origin": origin}, "cap") == origin
    assert code(DEVELOPMENT, {"origin": "http://localhost.example.com"}) == "origin_not_allowed"


def test_a_key_never_shows_its_hash() -> None:
    assert KEY.sha256 not in repr(PRODUCTION)
