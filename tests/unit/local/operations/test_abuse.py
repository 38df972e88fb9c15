"""What one user can cost: docs/security.md shows what the assumptions make, and the assumptions are what the project has."""

import math

from aideer.chats import messages
from aideer.security.limits import DEFAULTS
from local.operations import abuse
from local.stack.template import ROOT, Template


def test_the_page_shows_what_the_assumptions_make() -> None:
    page = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    assert abuse.table() in page, "python -m local.operations.abuse prints it"


def test_a_day_of_copies_by_hand() -> None:
    """Without the code: 16 MB are read and written, and 4 MB are sent."""
    reads, writes = 16 * 2**20 / 4096, 16 * 2**20 / 1024
    each = reads * 0.125e-6 + writes * 0.625e-6 + 20 * 0.0000166667 + 0.2e-6 + 8e-6 + 4 * 2**20 * 0.09e-9
    [copies] = [one for one in abuse._list_abuses() if one.what.startswith("copies")]
    assert math.isclose(copies.request.cost, each)
    assert math.isclose(copies.after, 24 * 30 * each)
    assert math.isclose(copies.before, 1000 / 20 * 86400 * each)


def test_every_limit_saves_most_of_what_a_user_could_cost() -> None:
    for one in abuse._list_abuses():
        assert one.after < one.before / 40, one.what
        assert one.after < 50, one.what


def test_the_assumptions_are_the_templates_and_the_domains() -> None:
    resources = Template().document["Resources"]
    assert resources["UploadsCompleteFunction"]["Properties"]["MemorySize"] == 1536
    assert resources["Api"]["Properties"]["DefaultRouteSettings"]["ThrottlingRateLimit"] == abuse.ROUTE
    assert messages.COPIED_READS == 16
    assert messages.REPLACED_READS == 32
    assert {DEFAULTS[kind].seconds for kind in ("copy", "replace", "preset", "read")} == {3600}
