"""Published definitions: immutable rows that executions are pinned to."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from orchestrator.errors import DefinitionConflict
from orchestrator.model.definition import Definition
from orchestrator.model.identity import new_id

#: The unique index decides which of two publishers of one version is first.
PUBLISH = text("""
INSERT INTO orchestrator.definition (id, tenant, name, version, spec, checksum)
VALUES (:id, :tenant, :name, :version, CAST(:spec AS jsonb), :checksum)
ON CONFLICT DO NOTHING
""")

FIND = text("""
SELECT id, name, version, spec, checksum FROM orchestrator.definition
WHERE tenant = :tenant AND name = :name AND (version = :version OR CAST(:version AS int) IS NULL)
ORDER BY version DESC LIMIT 1
""")

SAME_CONTENT = text("""
SELECT id, name, version, spec, checksum FROM orchestrator.definition
WHERE tenant = :tenant AND name = :name AND checksum = :checksum ORDER BY version DESC LIMIT 1
""")

LOAD = text("SELECT spec FROM orchestrator.definition WHERE id = :id")

LIST = text("""
SELECT d.id, d.name, d.version, d.status, d.checksum, d.created_at FROM orchestrator.definition d
WHERE d.tenant = :tenant ORDER BY d.name, d.version
""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """A definition as it stands in the ledger."""

    id: str
    name: str
    version: int
    spec: dict[str, Any]
    checksum: str

    def definition(self) -> Definition:
        """The stored content as a model."""
        return Definition.model_validate(self.spec)


def publish(connection: Connection, tenant: str, definition: Definition, *, new_version: bool = False) -> Published:
    """Publish a definition, or find it published already.

    Args:
        new_version: give changed content the next free version (dev mode).

    Raises:
        DefinitionConflict: the version is published with other content.
    """
    while True:
        _insert(connection, tenant, definition)
        found = find(connection, tenant, definition.name, definition.version)
        if found is None:
            raise LookupError(f"definition {definition.name} was deleted while it was published")
        if found.checksum == definition.checksum():
            return found
        if not new_version:
            raise DefinitionConflict(definition.name, definition.version, _diff(found.definition(), definition))
        # The newest first: what is published between the two then takes the version that is tried next.
        newest = find(connection, tenant, definition.name, None)
        same = _published(connection.execute(SAME_CONTENT, _content(tenant, definition)).first())
        if same is not None:
            return same
        version = (newest.version if newest else definition.version) + 1
        definition = definition.model_copy(update={"version": version})


def find(connection: Connection, tenant: str, name: str, version: int | None) -> Published | None:
    """A published definition, the highest version when none is given; None when there is none."""
    return _published(connection.execute(FIND, {"tenant": tenant, "name": name, "version": version}).first())


def load(connection: Connection, definition_id: str) -> Definition | None:
    """The content behind an id; None when there is none."""
    spec = connection.execute(LOAD, {"id": definition_id}).scalar()
    return None if spec is None else Definition.model_validate(spec)


def listed(connection: Connection, tenant: str) -> list[dict[str, Any]]:
    """Every published definition of a tenant, as JSON data."""
    return [dict(row._mapping) for row in connection.execute(LIST, {"tenant": tenant})]


def _insert(connection: Connection, tenant: str, definition: Definition) -> None:
    spec = json.dumps(definition.spec())
    parameters = {"id": new_id(), "version": definition.version, "spec": spec, **_content(tenant, definition)}
    connection.execute(PUBLISH, parameters)


def _content(tenant: str, definition: Definition) -> dict[str, Any]:
    return {"tenant": tenant, "name": definition.name, "checksum": definition.checksum()}


def _published(row: Any) -> Published | None:
    if row is None:
        return None
    return Published(id=str(row[0]), name=row[1], version=row[2], spec=row[3], checksum=row[4])


def _diff(old: Definition, new: Definition) -> str:
    before, after = (json.dumps(side.spec(), indent=2, sort_keys=True).splitlines() for side in (old, new))
    return "\n".join(difflib.unified_diff(before, after, "published", "new", lineterm=""))
