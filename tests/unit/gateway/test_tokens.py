"""Tokens: what they carry, who accepts them, and how they are refused."""

from __future__ import annotations

import base64
import json
import uuid
from datetime import UTC, datetime, timedelta

import jwt
import pytest

from parley_common.errors import PeerViolation
from parley_gateway.tokens import FACTS_TTL_S, ResumeGrant, TokenKey, Tokens

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
OLD = TokenKey("old", "an-old-secret-of-thirty-two-bytes-or-more")
NEW = TokenKey("new", "a-new-secret-of-thirty-two-bytes-or-more!")
RESUME = ResumeGrant(business="cap", session_id="s", replica="ws://r", fence=1, exp=int(NOW.timestamp()) + 60)


def refused(tokens: Tokens, token: str, now: datetime = NOW) -> str:
    with pytest.raises(PeerViolation) as caught:
        tokens.verify(token, now)
    assert caught.value.close_code == 1008
    return caught.value.stable_code


def test_a_token_says_what_it_was_issued_for() -> None:
    tokens = Tokens((NEW,), 60)
    token, grant = tokens.issue("cap", NOW, channel="cli", mode="text")
    assert tokens.verify(token, NOW + timedelta(seconds=59)) == grant
    assert (grant.business, grant.channel, grant.mode) == ("cap", "cli", "text")


def test_each_token_opens_a_session_of_its_own_with_an_id_that_sorts_by_time() -> None:
    tokens = Tokens((NEW,), 60)
    grants = [tokens.issue("cap", NOW)[1] for _ in range(3)]
    assert len({grant.session_id for grant in grants}) == len({grant.token_id for grant in grants}) == 3
    assert all(uuid.UUID(grant.session_id).version == 7 for grant in grants)


def test_a_token_expires_at_its_last_second() -> None:
    tokens = Tokens((NEW,), 60)
    token, _ = tokens.issue("cap", NOW)
    assert refused(tokens, token, NOW + timedelta(seconds=60)) == "token_expired"


def test_a_token_of_an_older_key_is_accepted_while_that_key_is_kept() -> None:
    token, _ = Tokens((OLD,), 60).issue("cap", NOW)
    assert Tokens((NEW, OLD), 60).verify(token, NOW).business == "cap"
    assert refused(Tokens((NEW,), 60), token) == "token_invalid"


def test_new_tokens_are_signed_with_the_first_key() -> None:
    token, _ = Tokens((NEW, OLD), 60).issue("cap", NOW)
    assert jwt.get_unverified_header(token)["kid"] == "new"


def test_a_token_signed_by_someone_else_under_our_key_name_is_invalid() -> None:
    forged, _ = Tokens((TokenKey("new", "somebody-elses-secret-of-thirty-two-bytes"),), 60).issue("cap", NOW)
    assert refused(Tokens((NEW,), 60), forged) == "token_invalid"


def test_a_token_without_a_signature_is_invalid() -> None:
    _, grant = Tokens((NEW,), 60).issue("cap", NOW)
    claims = {"business": "cap", "sid": grant.session_id, "jti": "j", "channel": "browser", "mode": "voice"}
    unsigned = jwt.encode({**claims, "exp": grant.exp, "use": "open"}, None, "none", headers={"kid": "new"})
    assert refused(Tokens((NEW,), 60), unsigned) == "token_invalid"


def test_a_token_whose_claims_were_changed_is_invalid() -> None:
    token, _ = Tokens((NEW,), 60).issue("cap", NOW)
    head, body, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    changed = (
        base64.urlsafe_b64encode(json.dumps({**claims, "business": "oak"}).encode()).rstrip(b"=").decode()
    )
    assert refused(Tokens((NEW,), 60), f"{head}.{changed}.{signature}") == "token_invalid"


def test_a_token_that_lacks_claims_is_invalid_though_well_signed() -> None:
    bare = jwt.encode({"exp": 9_999_999_999, "use": "open"}, NEW.secret, "HS256", headers={"kid": "new"})
    assert refused(Tokens((NEW,), 60), bare) == "token_invalid"


@pytest.mark.parametrize("name", ["nobody", ["new"], None, 7, ""])
def test_a_token_of_an_unknown_key_is_invalid_whatever_its_key_is_called(name: object) -> None:
    head = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": name}).encode()).rstrip(b"=").decode()
    _, body, signature = Tokens((NEW,), 60).issue("cap", NOW)[0].split(".")
    assert refused(Tokens((NEW,), 60), f"{head}.{body}.{signature}") == "token_invalid"


@pytest.mark.parametrize("nonsense", ["", "x", "a.b.c", "\x00", "é.é.é", "a" * 5_000])
def test_nonsense_is_an_invalid_token(nonsense: str) -> None:
    assert refused(Tokens((NEW,), 60), nonsense) == "token_invalid"


def test_a_resume_token_opens_nothing_and_an_open_token_resumes_nothing() -> None:
    tokens = Tokens((NEW,), 60)
    assert refused(tokens, tokens.issue_resume(RESUME)) == "token_invalid"
    with pytest.raises(PeerViolation, match="not issued here"):
        tokens.verify_resume(tokens.issue("cap", NOW)[0], NOW)


def test_a_resume_token_says_where_its_session_is() -> None:
    tokens = Tokens((NEW,), 60)
    assert tokens.verify_resume(tokens.issue_resume(RESUME), NOW) == RESUME


def test_a_key_never_shows_its_secret() -> None:
    assert NEW.secret not in repr(NEW)


def test_a_facts_token_watches_one_session_and_opens_or_resumes_nothing() -> None:
    tokens = Tokens((NEW,), 60)
    token = tokens.issue_facts("session-1", NOW)
    grant = tokens.verify_facts(token, NOW)
    assert (grant.session_id, grant.use) == ("session-1", "facts")
    assert refused(tokens, token) == "token_invalid"
    with pytest.raises(PeerViolation, match="not issued here"):
        tokens.verify_resume(token, NOW)
    for other in (tokens.issue("cap", NOW)[0], tokens.issue_resume(RESUME)):
        with pytest.raises(PeerViolation, match="not issued here"):
            tokens.verify_facts(other, NOW)


def test_a_facts_token_expires() -> None:
    tokens = Tokens((NEW,), 60)
    token = tokens.issue_facts("session-1", NOW)
    with pytest.raises(PeerViolation) as caught:
        tokens.verify_facts(token, NOW + timedelta(seconds=FACTS_TTL_S))
    assert caught.value.stable_code == "token_expired"
