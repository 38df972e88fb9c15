"""GET /users/{id}/credits: administrators read a user's ledger, and each look at another user's is recorded."""

from collections import Counter
from collections.abc import Callable

from aideer.data.models import AuditRecord
from tests.support import Answer, Api, Person, recorded_calls

MakePerson = Callable[..., Person]


def ledger(api: Api, user: Person, id: str, query: str = "") -> Answer:
    return api("users.ledger", "GET", f"/users/{id}/credits{query}", user=user)


def grant(api: Api, admin: Person, user: Person, amount: int) -> None:
    body = {"amount": amount, "description": f"The {amount}th"}
    assert api("users.grant", "POST", f"/users/{user.id}/credits", json=body, user=admin).status == 200


def records_of(admin: Person) -> list[tuple[str, str | None]]:
    found = AuditRecord.query(AuditRecord.ALL, filter_condition=AuditRecord.actor_id == admin.id)
    return [(record.action, record.user_id) for record in found]


def test_an_administrator_reads_the_ledger_that_its_user_reads(api: Api, person: MakePerson) -> None:
    admin, user = person(permission=2), person(credits=50)
    for amount in (1, 2, 3):
        grant(api, admin, user, amount)
    own = api("users.credits", "GET", "/users/me/credits?limit=2", user=user)
    seen = ledger(api, admin, user.id, "?limit=2")
    assert (seen.status, seen.json) == (200, own.json)
    assert [line["amount"] for line in seen.json["credit_records"]] == [3, 2]
    cursor = seen.headers["x-next-cursor"]
    rest = ledger(api, admin, user.id, f"?limit=2&cursor={cursor}")
    assert [line["amount"] for line in rest.json["credit_records"]] == [1, 50]
    assert "x-next-cursor" not in rest.headers


def test_each_look_at_anothers_ledger_is_recorded_and_none_at_ones_own(api: Api, person: MakePerson) -> None:
    admin, user = person(permission=2), person()
    assert ledger(api, admin, user.id).status == 200
    assert ledger(api, admin, admin.id).status == 200
    assert records_of(admin) == [("user.ledger", user.id)]


def test_only_administrators_read_it_and_only_of_users_that_exist(api: Api, person: MakePerson) -> None:
    admin, user = person(permission=2), person()
    for id in (user.id, admin.id):
        refused = ledger(api, user, id)
        assert (refused.status, refused.json["code"]) == (403, "not_admin")
    missing = ledger(api, admin, "nobody")
    assert (missing.status, missing.json["code"]) == (404, "user_not_found")
    wrong = ledger(api, admin, user.id, "?cursor=nonsense")
    assert (wrong.status, wrong.json["code"]) == (422, "invalid_cursor")
    assert records_of(admin) == []


def test_a_look_takes_one_query_however_long_the_ledger_is(api: Api, person: MakePerson) -> None:
    admin, user = person(permission=2), person()
    for amount in range(1, 31):
        grant(api, admin, user, amount)
    ledger(api, admin, user.id)  # the signing key is read once
    with recorded_calls() as calls:
        assert len(ledger(api, admin, user.id, "?limit=5").json["credit_records"]) == 5
    assert Counter(call.split()[0] for call in calls) == {"GetItem": 2, "Query": 1, "PutItem": 1}
