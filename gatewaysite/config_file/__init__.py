"""The configuration as a YAML file: read, checked, applied and exported.

    text --reading--> Document --checking--> against rows --applying--> rows --exporting--> text

`fields.py` is the vocabulary both ways. `apply_text` is all or nothing: every problem is
reported by its path, and with one problem nothing is written.
"""

from django.db import transaction

from gatewaysite.config_file.applying import Applier
from gatewaysite.config_file.checking import check_against_rows
from gatewaysite.config_file.existing import read_existing
from gatewaysite.config_file.exporting import export
from gatewaysite.config_file.problems import ConfigFileError, Problems
from gatewaysite.config_file.reading import read_document
from gatewaysite.config_file.rowwriter import Changes
from gatewaysite.exclusive import one_at_a_time

__all__ = ["Changes", "ConfigFileError", "apply_text", "export"]


def apply_text(text: str, *, dry_run: bool = False) -> Changes:
    """Apply the file in one transaction and return what changed. Raises ConfigFileError."""
    problems = Problems()
    document = read_document(text, problems)
    with transaction.atomic():
        one_at_a_time()
        existing = read_existing(document)
        check_against_rows(document, existing, problems)
        problems.raise_if_any()
        changes = Applier(document, existing).apply()
        if dry_run:
            transaction.set_rollback(True)
            changes.secrets.clear()
    return changes
