"""What the tests of configuration files share."""

from config.models import current_version
from gatewaysite.config_file import Changes, ConfigFileError, apply_text

# The example of DESIGN.md, section 10, but for its secret, which falls short of its own rule.
DESIGN_EXAMPLE = """
version: 1
default_provider: openai
providers:
  - {name: openai, dialect: openai, base_url: "https://api.openai.com/v1", api_key: "${OPENAI_API_KEY}"}
  - name: anthropic                 # the name is also the namespace: model "anthropic/claude-..."
    dialect: anthropic              # openai | anthropic | gemini | mistral | ollama
    base_url: "https://api.anthropic.com"
    api_key: "${ANTHROPIC_API_KEY}" # unset variable: provider stays disabled, with a warning
    timeouts: {connect: 5, first_content: 30, idle: 60, total: 600}   # seconds
    max_connections: 500
default_model: gpt-4o-mini          # for /api/chat; the demo model when no vendor is configured
routes:
  - match: "gpt-4o*"
    kind: prefix                    # exact | prefix (a trailing * is optional) | regex
    priority: 100
    strategy: ordered               # ordered | weighted | least_latency | least_busy
    targets:
      - {provider: openai}          # model omitted: the requested name
      - {provider: anthropic, model: claude-haiku-4-5, weight: 1}
cache: {ttl_seconds: 3600, exclusions: [{kind: regex, pattern: ".*-preview$"}]}
tenants:
  - {name: acme, budgets: [{amount_usd: "25.00", window: month}]}
keys:
  - name: acme-ci
    tenant: acme
    secret: "any-24-chars-or-more"
    allowed_models: ["gpt-4o*", "anthropic/*"]
    rate_limits: [{requests: 60, per: minute}, {tokens: 100000, per: minute}, {concurrent: 8}]
    budgets: [{amount_usd: "5.00", window: day}]      # day | week | month | total
prices:
  - {provider: openai, model: gpt-4o-mini, input_usd_per_mtok: "0.15", output_usd_per_mtok: "0.60",
     cached_input_usd_per_mtok: "0.075"}
"""

PROVIDER = "providers: [{name: p, dialect: openai, base_url: 'http://p'}]"


def applied(text: str) -> Changes:
    """Apply `text` below its version line."""
    return apply_text(f"version: 1\n{text}")


def problems_of(text: str) -> list[str]:
    """Return what is wrong with `text`, and hold that nothing of it was applied."""
    before = current_version()
    try:
        apply_text(text)
    except ConfigFileError as found:
        assert current_version() == before
        return list(found.problems)
    return []


def problems(text: str) -> list[str]:
    """Return what is wrong with `text` below its version line."""
    return problems_of(f"version: 1\n{text}")
