"""Which rows about callers the audit log follows."""

from config.audit import audited
from keys.models import ApiKey, Budget, LedgerRetention, Member, RateLimit, Tenant

audited(Tenant, hidden=("alert_webhook",))
audited(Member)
audited(ApiKey, skipped=("digest", "previous_digest", "last_used_at"))
audited(RateLimit)
audited(Budget)
audited(LedgerRetention)
