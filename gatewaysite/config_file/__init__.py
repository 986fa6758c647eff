"""The configuration as a YAML file: read, checked, applied and exported.

    text --reading--> Document --checking--> against rows --applying--> rows --exporting--> text

`fields.py` is the vocabulary both ways. `apply_text` is all or nothing: every problem is
reported by its path, and with one problem nothing is written.
"""

from collections.abc import Mapping
from typing import Any

from django.db import transaction

from gatewaysite.config_file.applying import Applier
from gatewaysite.config_file.checking import check_against_rows
from gatewaysite.config_file.differences import Difference, diff, left_alone
from gatewaysite.config_file.document import Document
from gatewaysite.config_file.existing import read_existing
from gatewaysite.config_file.exporting import export
from gatewaysite.config_file.problems import ConfigFileError, Problems
from gatewaysite.config_file.reading import document_of, read_document
from gatewaysite.config_file.rowwriter import Changes
from gatewaysite.exclusive import one_at_a_time

__all__ = ["Changes", "ConfigFileError", "Difference", "apply_mapping", "apply_text", "diff", "export"]


def apply_text(text: str, *, dry_run: bool = False) -> Changes:
    """Apply the file in one transaction and return what changed. Raises ConfigFileError."""
    problems = Problems()
    return _applied(read_document(text, problems), problems, dry_run=dry_run)


def apply_mapping(file: Mapping[str, Any], *, dry_run: bool = False) -> Changes:
    """Apply what was read from JSON of the file's form, as `apply_text` does."""
    problems = Problems()
    return _applied(document_of(file, problems), problems, dry_run=dry_run)


def _applied(document: Document, problems: Problems, *, dry_run: bool) -> Changes:
    with transaction.atomic():
        one_at_a_time()
        existing = read_existing(document)
        check_against_rows(document, existing, problems)
        problems.raise_if_any()
        changes = Applier(document, existing).apply()
        changes.left_alone = left_alone(document)
        if dry_run:
            transaction.set_rollback(True)
            changes.secrets.clear()
    return changes
