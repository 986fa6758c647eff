"""What a file may say, and how it is told what it may not."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewaysite.config_file.problems import ConfigFileError, Problems
from gatewaysite.config_file.yamltext import read_yaml
from gatewaysite.tests.config_files import PROVIDER, applied, problems, problems_of
from keys.models import ApiKey
from providers.models import Provider
from proxy.models import Route

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["must be a mapping that begins with `version: 1`"]),
        ("- version: 1", ["must be a mapping that begins with `version: 1`"]),
        ("providers: []", ["version: required: `version: 1`"]),
        ("version: 2", ["version: must be 1"]),
        ("version: true", ["version: must be 1"]),
        ('version: "1"', ["version: must be 1"]),
        ("version: 1\nkeys: [a", ["not YAML: line 3, column 1: while parsing a flow sequence"]),
        ("version: 1\n\tkeys: []", ["not YAML: line 2, column 1: "]),
        ("version: 1\n---\nversion: 1", ["not YAML: line 2, column 1: "]),
        ("version: 1\nkeys: *nobody", ["not YAML: line 2, column 7: found undefined alias"]),
        ("version: 1\nkeys: !!python/object:os.system []", ["not YAML: line 2, column 7: "]),
        ("version: 1\n? [a, b]\n: 1", ["not YAML: line 2, column 3: "]),
        ("version: 1\nx: \x00", ["not YAML: "]),
        ("version: 1\nversion: 1", ["version: given twice, in lines 1 and 2"]),
        ("version: 1\nkeys:\n- {name: a, name: b, tenant: t}", ["keys[0].name: given twice, in line 3"]),
    ],
)
def test_it_says_where_the_file_is_no_configuration(text, expected):
    for found, start in zip(problems_of(text), expected, strict=False):
        assert found.startswith(start)
    assert problems_of(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("providrs: []", "providrs: unknown field, did you mean providers?"),
        ("1: x", "1: unknown field; known: "),
        ("providers: {}", "providers: must be a list"),
        ("providers: [openai]", "providers[0]: must be a mapping of fields"),
        ("providers: [{dialect: openai, base_url: 'http://p'}]", "providers[0].name: required"),
        ("providers: [{name: p, base_url: 'http://p'}]", "providers[0].dialect: required"),
        ("providers: [{name: p, dialect: openai}]", "providers[0].base_url: required"),
        (
            "providers: [{name: 7, dialect: openai, base_url: 'http://p'}]",
            "providers[0].name: must be text: put it in quotes",
        ),
        (
            "providers: [{name: 'A b', dialect: openai, base_url: 'http://p'}]",
            "providers[0].name: use a-z, 0-9, dot, dash and underscore",
        ),
        (
            "providers: [{name: p, dialect: cohere, base_url: 'http://p'}]",
            "providers[0].dialect: must be one of openai, anthropic, gemini, mistral, ollama",
        ),
        (
            "providers: [{name: p, dialect: openai, base_url: 'ftp://p'}]",
            "providers[0].base_url: must start with http:// or https://",
        ),
        (
            "providers: [{name: p, dialect: openai, base_ulr: 'http://p'}]",
            "providers[0].base_ulr: unknown field, did you mean base_url?",
        ),
        (
            "providers: [{name: p, timeouts: {conect: 5}}]",
            "providers[0].timeouts.conect: unknown field, did you mean connect?",
        ),
        ("providers: [{name: p, timeouts: 5}]", "providers[0].timeouts: must be a mapping of fields"),
        (
            "providers: [{name: p, timeouts: {connect: 0}}]",
            "providers[0].timeouts.connect: must be a number of seconds above 0",
        ),
        (
            "providers: [{name: p, timeouts: {connect: null}}]",
            "providers[0].timeouts.connect: must be a number of seconds above 0",
        ),
        (
            "providers: [{name: p, timeouts: {idle: '60'}}]",
            "providers[0].timeouts.idle: must be a number of seconds above 0",
        ),
        (
            "providers: [{name: p, timeouts: {idle: 0.0001}}]",
            "providers[0].timeouts.idle: ensure this value is greater than or equal to 0.001",
        ),
        ("providers: [{name: p, max_connections: 0}]", "providers[0].max_connections: must be 1 or more"),
        (
            "providers: [{name: p, max_connections: 99999999999}]",
            "providers[0].max_connections: must be 2147483647 or less",
        ),
        ("providers: [{name: p, enabled: yes}]", "providers[0].enabled: must be true or false"),
        (
            "providers: [{name: p, extra_headers: {a: 1}}]",
            "providers[0].extra_headers: must be a mapping of text to text",
        ),
        ("providers: [{name: p, api_key: 12345}]", "providers[0].api_key: must be text: put it in quotes"),
        ("providers: [{name: p, api_key: 'Bearer ${X}'}]", "providers[0].api_key: a reference stands alone"),
        ("providers: [{name: p, api_key: '${X:-y}'}]", "providers[0].api_key: a reference stands alone"),
        (
            "providers: [{name: p, api_key: 'enc:nonsense'}]",
            "providers[0].api_key: no key in GATEWAY_SECRET_KEYS opens this",
        ),
        (f"{PROVIDER[:-1]}, {{name: p}}]", "providers[1]: the same as providers[0]: each may be listed once"),
        ("providers: [{name: p, max_concurrency: 0}]", "providers[0].max_concurrency: must be 1 or more"),
        ("providers: [{name: p, max_queue: -1}]", "providers[0].max_queue: must be 0 or more"),
        (
            "providers: [{name: p, queue_timeout: 0}]",
            "providers[0].queue_timeout: must be a number of seconds above 0",
        ),
        ("providers: [{name: p, api_keys: x}]", "providers[0].api_keys: must be a list ([] for none)"),
        ("providers: [{name: p, api_keys: [1]}]", "providers[0].api_keys[0]: must be text: put it in quotes"),
        (
            "providers: [{name: p, api_keys: ['a ${X}']}]",
            "providers[0].api_keys[0]: a reference stands alone",
        ),
        ("providers: [{name: p, api_keys: [{api_key: x}]}]", "providers[0].api_keys[0].name: required"),
        (
            "providers: [{name: p, api_keys: [{name: a, key: x}]}]",
            "providers[0].api_keys[0].key: unknown field, did you mean api_key?",
        ),
        (
            "providers: [{name: p, api_keys: [x, {name: key-2}]}]",
            "providers[0].api_keys[1]: has the same name as providers[0].api_keys[0]",
        ),
        (
            f"{PROVIDER[:-2]}, api_keys: ['enc:nonsense', {{name: b, api_key: 'enc:x'}}]}}]",
            "providers[0].api_keys[0]: no key in GATEWAY_SECRET_KEYS opens this",
        ),
        ("default_provider: nobody", "default_provider: no provider is named nobody"),
        ("default_provider: 5", "default_provider: must be text"),
        ("routes: [{match: m}]", "routes[0].targets: required"),
        ("routes: [{kind: exact, targets: []}]", "routes[0].match: required"),
        (
            "routes: [{match: m, kind: glob, targets: []}]",
            "routes[0].kind: must be one of exact, prefix, regex",
        ),
        (
            "routes: [{match: m, strategy: best, targets: []}]",
            "routes[0].strategy: must be one of ordered, weighted, least_latency, least_busy",
        ),
        ("routes: [{match: m, priority: 1.5, targets: []}]", "routes[0].priority: must be a whole number"),
        (
            "routes: [{match: '(', kind: regex, targets: []}]",
            "routes[0].match: not a valid RE2 regex: missing ): (",
        ),
        ("routes: [{match: '(?=x)', kind: regex, targets: []}]", "routes[0].match: not a valid RE2 regex: "),
        (
            f"{PROVIDER}\nroutes: [{{match: m, targets: [{{provider: pp}}]}}]",
            "routes[0].targets[0].provider: no provider is named pp, did you mean p?",
        ),
        ("routes: [{match: m, targets: [{model: x}]}]", "routes[0].targets[0].provider: required"),
        (
            "routes: [{match: m, targets: [{provider: p, weight: -1}]}]",
            "routes[0].targets[0].weight: must be 0 or more",
        ),
        (
            "routes: [{match: m, targets: [{provider: p, canary: 0}]}]",
            "routes[0].targets[0].canary: a canary needs a percentage of requests above 0",
        ),
        (
            "routes: [{match: m, targets: [{provider: p, canary: 101}]}]",
            "routes[0].targets[0].canary: ensure this value is less than or equal to 100",
        ),
        (
            "routes: [{match: m, targets: [{provider: p, percent: 5}]}]",
            "routes[0].targets[0].percent: unknown field",
        ),
        (
            "routes: [{match: m, targets: [{provider: p, context_window: 0}]}]",
            "routes[0].targets[0].context_window: must be 1 or more",
        ),
        (
            f"{PROVIDER}\nroutes: [{{match: m, targets: [], shadow: [{{provider: pp}}]}}]",
            "routes[0].shadow[0].provider: no provider is named pp, did you mean p?",
        ),
        (
            "routes: [{match: m, targets: [], shadow: [{provider: p, budget_usd_per_day: -1}]}]",
            "routes[0].shadow[0].budget_usd_per_day: must not be negative",
        ),
        (
            "routes: [{match: m, targets: [], shadow: [{provider: p, percent: '5'}]}]",
            "routes[0].shadow[0].percent: must be a number of percent",
        ),
        (
            "routes: [{match: m, targets: [], on_content_filter: [{model: x}]}]",
            "routes[0].on_content_filter[0].provider: required",
        ),
        (
            "routes: [{match: m, targets: [], on_context_overflow: [{provider: p, weight: 1}]}]",
            "routes[0].on_context_overflow[0].weight: unknown field",
        ),
        (
            "routes: [{match: m, targets: [], on_context_overflow: {provider: p}}]",
            "routes[0].on_context_overflow: must be a list ([] for none)",
        ),
        (
            "routes: [{match: m, targets: [], shadow: [x]}]",
            "routes[0].shadow[0]: must be a mapping of fields",
        ),
        (
            "routes: [{match: m, targets: [], sticky: cookie}]",
            "routes[0].sticky: must be user, {header: x-session-id} or null",
        ),
        (
            "routes: [{match: m, targets: [], sticky: {cookie: a}}]",
            "routes[0].sticky.cookie: unknown field; known: header",
        ),
        ("routes: [{match: m, targets: [], sticky: {}}]", "routes[0].sticky.header: required"),
        (
            "routes: [{match: m, targets: [], sticky: {header: 'a b'}}]",
            "routes[0].sticky.header: must be the name of a header",
        ),
        (
            "routes: [{match: m, targets: [], sticky: {header: user}}]",
            "routes[0].sticky.header: must not be called user",
        ),
        (
            "routes: [{match: m, targets: [], timeouts: {idle: 0}}]",
            "routes[0].timeouts.idle: must be a number of seconds above 0",
        ),
        (
            "routes: [{match: m, targets: [], timeouts: {read: 1}}]",
            "routes[0].timeouts.read: unknown field",
        ),
        ("routes: [{match: m, targets: [], hedge: 1}]", "routes[0].hedge: must be true or false"),
        ("tenants: [{name: t, queue_weight: 1001}]", "tenants[0].queue_weight: must be 1000 or less"),
        ("routes: [{match: m, targets: {provider: p}}]", "routes[0].targets: must be a list ([] for none)"),
        ("routes: [{match: m, targets: []}, {match: m, kind: exact}]", "routes[1]: the same as routes[0]"),
        ("cache: []", "cache: must be a mapping of fields"),
        ("cache: {ttl_seconds: 0}", "cache.ttl_seconds: must be 1 or more"),
        ("cache: {ttl: 5}", "cache.ttl: unknown field, did you mean ttl_seconds?"),
        (
            "cache: {exclusions: [{kind: regex, pattern: '['}]}",
            "cache.exclusions[0].pattern: not a valid RE2 regex: missing ]: [",
        ),
        (
            "cache: {exclusions: [{kind: prefix, pattern: x}]}",
            "cache.exclusions[0].kind: must be one of exact, regex",
        ),
        ("cache: {exclusions: [{kind: exact}]}", "cache.exclusions[0].pattern: required"),
        (
            "cache: {exclusions: [{pattern: x}, {pattern: x}]}",
            "cache.exclusions[1]: the same as cache.exclusions[0]",
        ),
        (
            "tenants: [{name: t, timezone: Mars/Olympus}]",
            "tenants[0].timezone: 'Mars/Olympus' is not a known time zone",
        ),
        ("tenants: [{name: t, budgets: [{window: month}]}]", "tenants[0].budgets[0].amount_usd: required"),
        ("tenants: [{name: t, budgets: [{amount_usd: 5}]}]", "tenants[0].budgets[0].window: required"),
        (
            "tenants: [{name: t, budgets: [{amount_usd: '5', window: year}]}]",
            "tenants[0].budgets[0].window: must be one of day, week, month, total",
        ),
        (
            "tenants: [{name: t, budgets: [{amount_usd: '-5', window: day}]}]",
            "tenants[0].budgets[0].amount_usd: must not be negative",
        ),
        (
            "tenants: [{name: t, budgets: [{amount_usd: '1e99', window: day}]}]",
            "tenants[0].budgets[0].amount_usd: is more than the ledger can hold",
        ),
        (
            "tenants: [{name: t, budgets: [{amount_usd: '0.0000000001', window: day}]}]",
            "tenants[0].budgets[0].amount_usd: has more than nine decimal places",
        ),
        (
            "tenants: [{name: t, budgets: [{amount_usd: five, window: day}]}]",
            "tenants[0].budgets[0].amount_usd: must be a decimal number of dollars",
        ),
        (
            "tenants: [{name: t, budgets: [{amount_usd: true, window: day}]}]",
            "tenants[0].budgets[0].amount_usd: must be a decimal number of dollars",
        ),
        ("tenants: [{name: t, budgets: null}]", "tenants[0].budgets: must be a list ([] for none)"),
        (
            "rate_limits: [{per: minute}]",
            "rate_limits[0]: must have exactly one of requests, tokens, concurrent",
        ),
        (
            "rate_limits: [{requests: 1, tokens: 2, per: day}]",
            "rate_limits[0]: must have exactly one of requests, tokens, concurrent",
        ),
        ("rate_limits: [{requests: 0, per: day}]", "rate_limits[0].requests: must be 1 or more"),
        ("rate_limits: [{requests: 5}]", "rate_limits[0].per: required: one of second, minute, hour, day"),
        (
            "rate_limits: [{tokens: 5, per: week}]",
            "rate_limits[0].per: must be one of second, minute, hour, day",
        ),
        (
            "rate_limits: [{concurrent: 5, per: day}]",
            "rate_limits[0].per: requests at once have no window: leave it out",
        ),
        (
            "rate_limits: [{concurent: 5}]",
            "rate_limits[0].concurent: unknown field, did you mean concurrent?",
        ),
        (
            "budgets: [{amount_usd: '5', window: day, mode: lax}]",
            "budgets[0].mode: must be one of strict, soft",
        ),
        (
            "rate_limits: [{requests: 1000000000001, per: day}]",
            "rate_limits[0].requests: must be 1000000000000 or less",
        ),
        (
            "rate_limits: [{requests: 5, per: day, each: planet}]",
            "rate_limits[0].each: must be one of tenant, key, model, ip",
        ),
        (
            "rate_limits: [{requests: 5, per: day, model: 'gpt-*-mini'}]",
            "rate_limits[0].model: a * stands at the end of a pattern alone",
        ),
        (
            "budgets: [{amount_usd: '9000000.01', window: day}]",
            "budgets[0].amount_usd: must be at most 9,000,000 dollars",
        ),
        (
            "budgets: [{amount_usd: 1, window: day, raised_usd: 9000001, raised_until: 2027-01-01}]",
            "budgets[0].raised_usd: must be at most 9,000,000 dollars",
        ),
        (
            "budgets: [{amount_usd: 1, window: day, raised_usd: 2}]",
            "budgets[0].raised_until: required beside raised_usd",
        ),
        (
            "budgets: [{amount_usd: 1, window: day, raised_until: 2027-01-01}]",
            "budgets[0].raised_usd: required beside raised_until",
        ),
        (
            "budgets: [{amount_usd: 1, window: day, raised_usd: 2, raised_until: soon}]",
            "budgets[0].raised_until: must be a date or time",
        ),
        (
            "budgets: [{amount_usd: 1, window: day, alert_percents: 80}]",
            "budgets[0].alert_percents: must be a list ([] for none)",
        ),
        (
            "budgets: [{amount_usd: 1, window: day, alert_percents: [0]}]",
            "budgets[0].alert_percents: must be a list of whole percentages from 1 to 1000",
        ),
        (
            "budgets: [{amount_usd: 1, window: day, refuse_unpriced: 1}]",
            "budgets[0].refuse_unpriced: must be true or false",
        ),
        (
            "tenants: [{name: t, alert_emails: [ops]}]",
            "tenants[0].alert_emails: 'ops' is not an e-mail address",
        ),
        ("tenants: [{name: t, alert_emails: null}]", "tenants[0].alert_emails: must be a list ([] for none)"),
        (
            "tenants: [{name: t, alert_webhook: 'ftp://x'}]",
            "tenants[0].alert_webhook: must be a URL that begins with http:// or https://, or ${VARIABLE}",
        ),
        (
            "tenants: [{name: t, alert_webhook: 'https://x/${TOKEN}'}]",
            "tenants[0].alert_webhook: a reference stands alone, as in ${OPENAI_API_KEY}",
        ),
        (
            "tenants: [{name: t, alert_webhook: 5}]",
            "tenants[0].alert_webhook: must be text: put it in quotes",
        ),
        (
            "keys: [{name: k, denied_models: ['']}]",
            "keys[0].denied_models: must be a list of model patterns",
        ),
        (
            "keys: [{name: k, denied_models: ['gpt-*-mini']}]",
            "keys[0].denied_models: a * stands at the end of a pattern alone",
        ),
        (
            "keys: [{name: k, allowed_networks: [10.0.0.0/99]}]",
            "keys[0].allowed_networks: '10.0.0.0/99' is neither an address nor a network such as 10.0.0.0/8",
        ),
        (
            "keys: [{name: k, allowed_networks: 10.0.0.0/8}]",
            "keys[0].allowed_networks: must be a list ([] for none)",
        ),
        ("keys: [{name: k, tags: [team]}]", "keys[0].tags: must be names and texts, such as {team: search}"),
        ("keys: [{name: k, tags: {team: 5}}]", 'keys[0].tags: must be names and texts, such as {"team"'),
        ("keys: [{name: k, max_tokens: 0}]", "keys[0].max_tokens: must be 1 or more"),
        ("keys: [{name: k, forced_route: 5}]", "keys[0].forced_route: must be text: put it in quotes"),
        (
            "keys: [{name: k, previous_secret_sha256: abc}]",
            "keys[0].previous_secret_sha256: must be a SHA-256 digest: 64 hexadecimal digits",
        ),
        (
            f"keys: [{{name: k, previous_secret_sha256: {'a' * 64}}}]",
            "keys[0].previous_until: required beside previous_secret_sha256",
        ),
        (
            "keys: [{name: k, previous_until: 2027-01-01}]",
            "keys[0].previous_secret_sha256: required: until when does which secret work?",
        ),
        (
            f"keys: [{{name: k, secret_sha256: {'a' * 64}, previous_secret_sha256: {'a' * 64}}}]",
            "keys[0].previous_secret_sha256: is the secret that the key has now",
        ),
        (
            (
                f"keys: [{{name: k, secret_sha256: {'a' * 64}}}, "
                f"{{name: l, previous_secret_sha256: {'A' * 64}}}]"
            ),
            "keys[1]: has the same secret as keys[0]",
        ),
        ("keys: [{name: k}]", "keys[0].tenant: required"),
        ("keys: [{name: k, tenant: t}]", "keys[0].tenant: no tenant is named t"),
        ("keys: [{tenant: t}]", "keys[0].name: required"),
        ("keys: [{name: k, secret: short}]", "keys[0].secret: must have at least 20 characters"),
        ("keys: [{name: k, secret: 123}]", "keys[0].secret: must be text: put it in quotes"),
        (
            "keys: [{name: k, secret: sk-gw-0123456789012345678901234567890123456789012abcdef}]",
            "keys[0].secret: its checksum does not hold: mistyped?",
        ),
        (
            "keys: [{name: k, secret: '${NOT_SET_ANYWHERE_AT_ALL}'}]",
            "keys[0].secret: the environment variable NOT_SET_ANYWHERE_AT_ALL is not set",
        ),
        (
            "keys: [{name: k, secret_sha256: abc}]",
            "keys[0].secret_sha256: must be a SHA-256 digest: 64 hexadecimal digits",
        ),
        (
            f"keys: [{{name: k, secret_sha256: {'a' * 64}, secret: aaaaaaaaaaaaaaaaaaaaaaaaaaaa}}]",
            "keys[0].secret: give secret or secret_sha256, not both",
        ),
        (
            f"keys: [{{name: k, secret_sha256: {'a' * 64}}}, {{name: l, secret_sha256: {'A' * 64}}}]",
            "keys[1]: has the same secret as keys[0]",
        ),
        (
            "keys: [{name: k, expires_at: tomorrow}]",
            "keys[0].expires_at: must be a date or time such as 2027-01-31",
        ),
        (
            "keys: [{name: k, expires_at: 20270131}]",
            "keys[0].expires_at: must be a date or time such as 2027-01-31",
        ),
        (
            "keys: [{name: k, allowed_models: gpt-4o}]",
            "keys[0].allowed_models: must be a list of model patterns",
        ),
        (
            "keys: [{name: k, allowed_models: ['']}]",
            "keys[0].allowed_models: must be a list of model patterns",
        ),
        (
            "keys: [{name: k, prefix: much-longer-than-a-prefix}]",
            "keys[0].prefix: ensure this value has at most 16 characters",
        ),
        (
            "providers: [{name: p, dialect: openai, base_url: 'http://p', quirks: [n]}]",
            "providers[0].quirks: must be a mapping of fields",
        ),
        (
            "providers: [{name: p, dialect: openai, base_url: 'http://p', quirks: {max_tokens: 5}}]",
            "providers[0].quirks: has no field 'max_tokens'",
        ),
        (
            "providers: [{name: p, dialect: openai, base_url: 'http://p', quirks: {completions: perhaps}}]",
            "providers[0].quirks: completions must be true or false",
        ),
        (
            "providers: [{name: p, dialect: openai, base_url: 'http://p', path_template: '/{name}{path}'}]",
            "providers[0].path_template: knows {model} and {path}, not {name}",
        ),
        (
            "prices: [{model: m, input_usd_per_mtok: 1, output_usd_per_mtok: 1}]",
            "prices[0].provider: required",
        ),
        (
            "prices: [{provider: p, input_usd_per_mtok: 1, output_usd_per_mtok: 1}]",
            "prices[0].model: required",
        ),
        (
            "prices: [{provider: p, model: m, input_usd_per_mtok: 1}]",
            "prices[0].output_usd_per_mtok: required",
        ),
        (
            "prices: [{provider: p, model: m, input_usd_per_mtok: -1, output_usd_per_mtok: 1}]",
            "prices[0].input_usd_per_mtok: must not be negative",
        ),
        (
            "prices: [{provider: p, model: m, effective_from: never}]",
            "prices[0].effective_from: must be a date or time",
        ),
        (
            "prices: [{provider: p, model: m, audio_output_usd_per_mtok: -1}]",
            "prices[0].audio_output_usd_per_mtok: must not be negative",
        ),
        (
            "prices: [{provider: p, model: m, max_output_tokens: 0}]",
            "prices[0].max_output_tokens: must be 1 or more",
        ),
        (
            "prices: [{provider: p, model: m, tiers: {above_prompt_tokens: 5}}]",
            "prices[0].tiers: must be a list ([] for none)",
        ),
        (
            "prices: [{provider: p, model: m, tiers: [{input_usd_per_mtok: 5}]}]",
            "prices[0].tiers[0].above_prompt_tokens: required",
        ),
        (
            "prices: [{provider: p, model: m, tiers: [{above_prompt_tokens: 5}]}]",
            "prices[0].tiers: must say a rate above 5 tokens",
        ),
        (
            "prices: [{provider: p, model: m, tiers: [{above_prompt_tokens: 5, input: 5}]}]",
            "prices[0].tiers[0].input: unknown field",
        ),
        (
            "prices: [{provider: p, model: m, tiers: [{above_prompt_tokens: 5, output_usd_per_mtok: x}]}]",
            "prices[0].tiers[0].output_usd_per_mtok: must be a decimal number of dollars",
        ),
        (
            "prices: [{model: m, tiers: [&t {above_prompt_tokens: 5, input_usd_per_mtok: 1}, *t]}]",
            "prices[0].tiers: must rise: 5 comes after 5",
        ),
    ],
)
def test_it_tells_each_problem_by_its_path(text, expected):
    found = problems(text)
    assert any(problem.startswith(expected) for problem in found), found


def test_it_tells_all_problems_at_once():
    found = problems_of(
        "version: 2\nprovidrs: []\nroutes: [{match: '[', kind: regex, targets: [{provider: nope}]}]\n"
        "keys: [{name: k, tenant: nobody, budgets: [{amount_usd: x, window: year}]}]"
    )
    assert found == [
        "providrs: unknown field, did you mean providers?",
        "version: must be 1",
        "routes[0].match: not a valid RE2 regex: missing ]: [",
        "keys[0].budgets[0].amount_usd: must be a decimal number of dollars",
        "keys[0].budgets[0].window: must be one of day, week, month, total",
        "routes[0].targets[0].provider: no provider is named nope",
        "keys[0].tenant: no tenant is named nobody",
    ]


def test_it_tells_a_wrong_value_once_and_not_as_missing_too():
    assert problems("prices: [{provider: 5, model: m, input_usd_per_mtok: x, output_usd_per_mtok: 1}]") == [
        "prices[0].provider: must be text: put it in quotes",
        "prices[0].input_usd_per_mtok: must be a decimal number of dollars",
    ]


def test_it_takes_what_looks_like_other_types_of_yaml_1_1_as_text():
    applied(
        "providers: [{name: on, dialect: openai, base_url: 'http://p', extra_headers: "
        "{a: no, b: 2026-01-01}}]\n"
        "routes: [{match: 1_000, targets: []}, {match: 0o17, targets: []}, {match: 1e3, targets: []}]"
    )
    assert Provider.objects.get(name="on").extra_headers == {"a": "no", "b": "2026-01-01"}
    assert set(Route.objects.values_list("match", flat=True)) == {"1_000", "0o17", "1e3"}


def test_it_takes_a_heading_without_entries_for_an_empty_section():
    assert problems("providers:\nkeys:\nroutes:\n") == []


def test_it_reads_anchors_merges_and_aliases():
    applied(
        "tenants: [{name: t}]\n"
        "keys:\n"
        "  - &base {name: a, tenant: t, allowed_models: &models [m], secret_sha256: " + "a" * 64 + "}\n"
        "  - {<<: *base, name: b, allowed_models: *models, secret_sha256: " + "b" * 64 + "}\n"
    )
    assert ApiKey.objects.filter(allowed_models=["m"]).count() == 2


def test_it_survives_an_alias_that_contains_itself():
    assert "keys[0]: must be a mapping of fields" in problems("keys: &loop [*loop]")


@pytest.mark.parametrize(("match", "kind"), [("m*", "prefix"), ("m", "exact")])
def test_it_reads_a_route_without_a_kind_as_its_star_says(match, kind):
    applied(f"routes: [{{match: '{match}', targets: []}}]")
    assert Route.objects.get().kind == kind


@given(st.text(max_size=200))
def test_it_fails_in_no_other_way_than_by_telling_why(text):
    with contextlib.suppress(ConfigFileError):
        read_yaml(text, Problems())
