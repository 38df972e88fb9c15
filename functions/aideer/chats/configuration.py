"""The configuration that administrators set: the default preset and the announcement. One record holds both.

Each change raises the record's version and requires the version that it was made from. So of two administrators that change it at
once, one is refused. The default preset is public when it is set. It may be deleted or unpublished later, so each reader checks it.
"""

from functools import partial
from typing import Any, NamedTuple

from aideer.core import clock
from aideer.core.errors import AideerError, BadRequest, PreconditionFailed, PreconditionRequired, Unprocessable
from aideer.data import lookup
from aideer.data.models import Preset, Record, User
from aideer.data.transactions import Refused, Transaction
from aideer.schemas.config import ConfigChange
from aideer.security import audit_trail
from aideer.web import etags

_KEY = ("configuration", "current")


class Configuration(NamedTuple):
    """The configuration as it is stored. Without a record, it has version 0 and is empty."""

    version: int = 0
    default_preset: str | None = None
    announcement: dict[str, Any] | None = None
    update_time: str | None = None

    def to_record(self) -> Record:
        """Return the record that holds it."""
        data = {name: value for name, value in self._asdict().items() if name != "version"}
        return Record(*_KEY, data=data, version=self.version)


def read() -> Configuration:
    """Return the configuration as it is stored now."""
    record = lookup.find(Record, *_KEY)
    return Configuration(version=int(record.version), **record.data) if record else Configuration()


def change(admin: User, wanted: ConfigChange, if_match: str | None) -> Configuration:
    """Change the given fields, and return the configuration as it is then.

    Raises PreconditionRequired without If-Match, and PreconditionFailed if another change came between. Raises BadRequest if there
    is no such preset, Unprocessable if it is not public, and Forbidden if the caller is no administrator any more.
    """
    if if_match is None:
        raise PreconditionRequired(
            "if_match_required", "Send If-Match with the ETag of the configuration that you read."
        )
    current = read()
    if not etags.matches(if_match, current.version):
        raise _precondition_failed()
    given = wanted.model_dump(include=wanted.model_fields_set)
    if not given:
        return current
    changed = current._replace(version=current.version + 1, update_time=clock.timestamp(), **given)
    transaction = Transaction()
    put_in(transaction, changed, current)
    audit_trail.record_in(transaction, admin, "config.change", about=changed.default_preset)
    if preset_id := given.get("default_preset"):
        head = Preset(preset_id, Preset.HEAD)
        transaction.check("preset", head, Preset.visibility == "public", partial(_preset_error, preset_id))
    try:
        transaction.commit(proof=lambda: read() == changed)
    except Refused:
        raise _precondition_failed() from None
    return changed


def put_in(transaction: Transaction, changed: Configuration, current: Configuration) -> None:
    """Store a configuration in place of the current one.

    If that has changed since it was read, the transaction is refused with the step "configuration".
    """
    unchanged = lookup.unchanged(Record.version, current.version or None)
    transaction.put("configuration", changed.to_record(), unchanged)


def find_default_preset(configuration: Configuration) -> Preset | None:
    """Return the head of the default preset. Return None if none is set, or if it is deleted or not public any more."""
    if configuration.default_preset is None:
        return None
    head = lookup.find(Preset, configuration.default_preset, Preset.HEAD)
    return head if head is not None and head.visibility == "public" else None


def _preset_error(preset_id: str) -> AideerError | None:
    head = lookup.find(Preset, preset_id, Preset.HEAD)
    if head is None:
        return BadRequest("preset_not_found", "There is no such preset.")
    if head.visibility != "public":
        return Unprocessable("preset_not_public", "The default preset must be a public one.")
    return None


def _precondition_failed() -> PreconditionFailed:
    return PreconditionFailed("precondition_failed", "The configuration has changed since you read it. Read it again.")
