"""Which rows of the analytics the audit log follows."""

from analytics.models import ReRating, VendorImport
from config.audit import audited

audited(ReRating, skipped=("prices", "sums", "ledger_through", "applied_through"))
audited(VendorImport)
