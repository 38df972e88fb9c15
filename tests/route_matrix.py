"""The route matrix: every call, its permitted callers, its statuses, and the answer for each kind of caller.

Every new route needs a row here. tests/unit/test_request_samples.py compares the rows with template.yaml, the events and the
OpenAPI document, and tests/integration/test_matrix.py makes each call as each kind of caller.

    METHOD path | who | statuses | stranger visitor owner admin

Paths are below /api/v1, except those of `ROOT`. `who` is a key of `DOORS`: the token that the call takes. `DOORS` has the status
for each bad or foreign token. The third column has every status that the document gives the call. You may leave out those that a
rule adds: `EVERY_CALL`, `EVERY_TOKEN` if the call takes a token, and 415 if it takes a body. The last column has the four statuses
of a well-formed call about a thing of the owner. Its callers are a stranger (another user), a visitor (a stranger with permission
0), the owner, and an admin. A call for "anyone" has one status there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

STREAMED: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("POST", "/api/v1/tasks/stream"): "tasks.ask",
        ("POST", "/api/v1/ui/chat"): "ui.ask",
        ("GET", "/api/v1/ui/chat/{id}/stream"): "ui.resume",
        ("POST", "/api/v1/ui/chat/{id}/stop"): "ui.stop",
    }
)
"""These calls have no event: API Gateway cannot stream, so they go to the Lambda URL. Each has a name, as if it had a module."""
SITE = frozenset(("GET", path) for path in ("/", "/admin", "/s/{token}", "/web/{path+}"))
"""The web client's files are no calls of the API, so they are not in its document. tests/integration/test_site.py gets them."""
ROOT = ("/docs", "/openapi.json")
"""These are at the root too."""
EVERY_CALL = (422,)
"""A query parameter or a body that is not as described."""
OAUTH = ("/session/oauth2/token",)
"""These refuse as RFC 6749, section 5.2, wants it: what is not as described is 400."""
EVERY_TOKEN = (401, 503)
"""No token, a bad one, or one of another kind; contention that outlasted our patience."""

FOREIGN = ("nothing", "garbage", "expired", "signed out", "refresh", "wechat refresh", "ticket")
"""What is sent in an access token's place: the first four are no good to anybody, the others are good elsewhere."""
PEOPLE = ("stranger", "visitor", "owner", "admin")

_NO_GOOD = {"nothing": 401, "garbage": 401, "expired": 401, "signed out": 401}
_PEOPLE_REFUSED = dict.fromkeys(PEOPLE, 401)
DOORS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "anyone": {},
        "access": {**_NO_GOOD, "refresh": 401, "wechat refresh": 401, "ticket": 401},
        # A refresh token of the other way of signing in is as wrong as an access token.
        "refresh": {**_NO_GOOD, "refresh": 200, "wechat refresh": 401, "ticket": 401, **_PEOPLE_REFUSED},
        "wechat": {**_NO_GOOD, "refresh": 401, "wechat refresh": 200, "ticket": 401, **_PEOPLE_REFUSED},
    }
)

TABLE = """
POST   /session/oauth2/token            | anyone  | 200 400 429 502 503             | 200
GET    /session/wechat/token            | anyone  | 200 401 403 422 429 502 503     | 200
GET    /session/wechat/callback         | anyone  | 200 303 401 403 422 429 502 503 | 200
GET    /session/wechat/authorize        | anyone  | 302 400 422 503                 | 302
GET    /session/wechat/refresh          | wechat  | 200 429 502                     |
POST   /session/refresh                 | refresh | 200 422                         |
DELETE /session                         | access  | 200                             | 200 200 200 200

POST   /users                           | anyone  | 200 400 403 422 429 503         | 200
GET    /users                           | access  | 200 403 422                     | 403 403 403 200
GET    /users/me                        | access  | 200                             | 200 200 200 200
GET    /users/{id}                      | access  | 200 404 422                     | 200 200 200 200
PUT    /users/{id}                      | access  | 200 400 403 404 422 429         | 403 403 200 200
DELETE /users/{id}                      | access  | 200 403 404 409 422 429         | 403 403 200 200
PUT    /users/me/password               | access  | 200 400 403 422 429             | 200 200 200 200
PUT    /users/{id}/password             | access  | 200 400 403 404 422 429         | 403 403 403 200
POST   /users/me/identities/wechat      | access  | 200 400 403 409 422 429 502     | 200 200 200 200
POST   /users/me/identities/password    | access  | 200 400 403 409 422 429         | 200 200 200 200
POST   /users/me/avatar                 | access  | 200 413 415 422 429             | 200 200 200 200
GET    /users/me/avatar                 | access  | 200 304 422                     | 200 200 200 200
GET    /users/{id}/avatar               | access  | 200 304 404 422                 | 200 200 200 200
GET    /users/me/credits                | access  | 200 422                         | 200 200 200 200
POST   /users/me/credits                | access  | 200 422 429                     | 200 200 200 200
POST   /users/{id}/credits              | access  | 200 402 403 404 422             | 403 403 403 200
POST   /users/me/likes/preset/{id}      | access  | 200 400 403 404 409 422 429     | 403 403 200 200
DELETE /users/me/likes/preset/{id}      | access  | 200 400 403 404 422 429         | 200 200 200 200
POST   /users/me/likes/chat/{id}        | access  | 200 400 403 404 409 422 429     | 403 403 200 200
DELETE /users/me/likes/chat/{id}        | access  | 200 400 403 404 422 429         | 200 200 200 200
GET    /users/me/likes                  | access  | 200                             | 200 200 200 200
GET    /users/me/usage                  | access  | 200 422 429                     | 200 200 200 200
GET    /users/me/settings               | access  | 200 304 422                     | 200 200 200 200
PUT    /users/me/settings               | access  | 200 412 413 422 429             | 200 200 200 200
GET    /users/me/sessions               | access  | 200                             | 200 200 200 200
DELETE /users/me/sessions/{id}          | access  | 200 404 409 422                 | 404 404 200 404
DELETE /users/me/sessions               | access  | 200 409 422                     | 200 200 200 200
GET    /users/{id}/avatars/{name}       | anyone  | 200 304 404 422 503             | 200
POST   /users/me/keys                   | access  | 200 403 409 422 429             | 200 403 200 200
GET    /users/{id}/keys                 | access  | 200 403 404 422                 | 403 403 200 200
PUT    /users/me/keys/{key_id}          | access  | 200 404 422 429                 | 404 404 200 404
DELETE /users/{id}/keys/{key_id}        | access  | 200 403 404 422                 | 403 403 200 200
GET    /users/{id}/credits              | access  | 200 403 404 422                 | 403 403 403 200

POST   /codes                           | access  | 200 403 409 422                 | 403 403 403 200
GET    /codes                           | access  | 200 403 422                     | 403 403 403 200
GET    /codes/{code}                    | access  | 200 403 404 422                 | 403 403 403 200
DELETE /codes/{code}                    | access  | 200 403 404 422                 | 403 403 403 200
DELETE /codes                           | access  | 200 403 404 422                 | 403 403 403 200
GET    /prices                          | anyone  | 200                             | 200

GET    /config                          | anyone  | 200 304 503                     | 200

POST   /presets                         | access  | 200 403 409 422 429             | 200 403 200 200
GET    /presets                         | access  | 200 422 429                     | 200 200 200 200
GET    /presets/{id}                    | access  | 200 403 404 422 429             | 403 403 200 200
PUT    /presets/{id}                    | access  | 200 403 404 422 429             | 403 403 200 200
DELETE /presets/{id}                    | access  | 200 403 404 422                 | 403 403 200 200

POST   /chats                           | access  | 200 400 403 409 413 422 429     | 403 403 200 200
GET    /chats                           | access  | 200 422 429                     | 200 200 200 200
GET    /chats/{id}                      | access  | 200 304 403 404 422 429         | 403 403 200 200
PUT    /chats/{id}                      | access  | 200 400 403 404 409 412 413 422 428 429 | 403 403 200 200
DELETE /chats/{id}                      | access  | 200 403 404 422                 | 403 403 200 200
POST   /chats/{id}/messages             | access  | 200 403 404 413 422 429         | 403 403 200 403
PUT    /chats/{id}/messages/{n}         | access  | 200 403 404 409 412 422 428 429 | 403 403 200 200
DELETE /chats/{id}/messages/{n}         | access  | 200 403 404 409 412 413 422 428 429 | 403 403 200 200
PUT    /chats/{id}/branch               | access  | 200 403 404 409 412 422 428 429 | 403 403 200 200
POST   /chats/{id}/copy                 | access  | 200 400 403 404 409 413 422 429 | 403 403 200 200
GET    /chats/{id}/export               | access  | 200 403 404 422 429             | 403 403 200 200
POST   /chats/{id}/shares               | access  | 200 403 404 409 413 422 429     | 403 403 200 403
GET    /chats/{id}/shares               | access  | 200 403 404 422                 | 403 403 200 200
DELETE /chats/{id}/shares/{share_id}    | access  | 200 403 404 422                 | 403 403 200 200
PUT    /chats/{id}/messages/{n}/feedback | access | 200 403 404 422 429             | 403 403 200 403
DELETE /chats/{id}/messages/{n}/feedback | access | 200 403 404 422 429             | 403 403 200 403
GET    /shared/{token}                  | anyone  | 200 404 422 429 503             | 200
GET    /shared/{token}/messages/{n}/upload | anyone | 200 404 422 429 503           | 200
DELETE /chats                           | access  | 200 202 422 429                 | 200 200 200 200
GET    /search                          | access  | 200 422 429                     | 200 200 200 200
GET    /chats/{id}/messages/{n}/upload  | access  | 200 403 404 422                 | 403 403 200 200

POST   /uploads                         | access  | 200 403 413 415 422 429         | 200 403 200 200
GET    /uploads                         | access  | 200 422 429                     | 200 200 200 200
GET    /uploads/{id}                    | access  | 200 404 422 429                 | 404 404 200 404
POST   /uploads/{id}/complete           | access  | 200 403 404 409 422 429         | 404 403 200 404
DELETE /uploads/{id}                    | access  | 200 404 422                     | 404 404 200 404
GET    /changes                         | access  | 200 410 422 429                 | 200 200 200 200

POST   /tasks                           | access  | 200 400 402 403 404 409 413 422 429     | 403 403 200 403
POST   /tasks/quote                     | access  | 200 400 403 404 413 422 429     | 403 403 200 403
GET    /tasks/{id}                      | access  | 200 404 422 429                 | 404 404 200 404
DELETE /tasks/{id}                      | access  | 200 404 422                     | 404 404 200 404
POST   /tasks/stream                    | access  | 200 400 402 403 404 409 413 422 429 | 403 403 200 403
GET    /tasks/{id}/stream               | access  | 200 404 410 422 429             | 404 404 200 404
GET    /tasks/{id}/poll                 | access  | 200 404 410 422 429             | 404 404 200 404
POST   /ui/chat                         | access  | 200 400 402 403 404 409 413 422 429 | 404 403 200 404
GET    /ui/chat/{id}/stream             | access  | 200 204 404 422 429             | 404 404 204 404
POST   /ui/chat/{id}/stop               | access  | 200 202 204 404 422 429         | 404 404 204 404
POST   /tasks/{id}/stop                 | access  | 200 202 404 422 429             | 404 404 200 404
POST   /tasks/{id}/regenerate           | access  | 200 402 403 404 409 413 422 429     | 404 403 200 404

GET    /admin/stats                     | access  | 200 403 422                     | 403 403 403 200
GET    /admin/audit                     | access  | 200 403 422                     | 403 403 403 200
GET    /admin/reconciliation            | access  | 200 403 404                     | 403 403 403 200
GET    /admin/config                    | access  | 200 403                         | 403 403 403 200
PUT    /admin/config                    | access  | 200 400 403 412 428             | 403 403 403 200
GET    /admin/feedback                  | access  | 200 403 422                     | 403 403 403 200
GET    /admin/dead-letters              | access  | 200 403                         | 403 403 403 200
POST   /admin/dead-letters/redrive      | access  | 200 403                         | 403 403 403 200

GET    /health                          | anyone  | 200                             | 200
GET    /openapi.json                    | anyone  | 200 304 404                     | 200
GET    /docs                            | anyone  | 200 304 404                     | 200
"""


@dataclass(frozen=True)
class Call:
    """A row: one call of the API."""

    method: str
    path: str
    who: str
    statuses: frozenset[int]
    cells: Mapping[str, int]
    """The status that each kind of caller is answered: FOREIGN and PEOPLE."""

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def _read(line: str) -> list[Call]:
    call, who, statuses, people = (cell.split() for cell in line.split("|"))
    (method, path), [door] = call, who
    every_call = set() if path in OAUTH else set(EVERY_CALL)
    documented = frozenset(map(int, statuses)) | every_call | (set() if door == "anyone" else set(EVERY_TOKEN))
    if door == "anyone":
        cells = dict.fromkeys((*FOREIGN, *PEOPLE), int(people[0]))
    else:
        cells = {**DOORS[door], **dict(zip(PEOPLE, map(int, people), strict=bool(people)))}
    paths = [f"/api/v1{path}", *([path] if path in ROOT else [])]
    return [Call(method, path, door, documented, MappingProxyType(cells)) for path in paths]


CALLS = {(call.method, call.path): call for line in TABLE.split("\n") if line for call in _read(line)}
"""Every call, by method and whole path."""


def row(method: str, path: str) -> Call:
    """The row of a route. Where there is none, the error says what to add."""
    try:
        return CALLS[method, path]
    except KeyError:
        raise AssertionError(
            f"{method} {path} has no row. Add one to TABLE in tests/route_matrix.py:\n"
            f"{method} {path.removeprefix('/api/v1')} | anyone, access, refresh or wechat | the statuses that it is documented "
            "with | what a stranger, a visitor, the owner and an admin are answered\n"
            "and what it is sent, unless its path's parameters are enough, to SENT in tests/request_samples.py."
        ) from None
