"""Which rows of the data plane the audit log follows."""

from config.audit import audited
from proxy.models import CacheExclusion, GatewaySettings, Route, Target
from proxy.upstream_state import UpstreamState

audited(Route)
audited(Target)
audited(CacheExclusion)
audited(GatewaySettings)
audited(UpstreamState, skipped=UpstreamState.snapshot_ignores)
