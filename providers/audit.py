"""Which rows of vendors the audit log follows."""

from config.audit import audited
from providers.models import Credential, Price, Provider

audited(Provider, hidden=("credential", "extra_headers"), skipped=("models_refreshed_at", "models_error"))
audited(Credential, hidden=("credential",))
audited(Price)
