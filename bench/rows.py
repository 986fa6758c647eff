"""Prepares a database and writes the rows of the measured gateway: `python -m bench.rows UPSTREAM_URL`.

Everything that a request can be asked to pass is there: a key with a limit and a budget that it
never reaches, a route with a second target that is never needed, a price, cache exclusions. Two more
routes balance.
"""

import os
import sys
from decimal import Decimal

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gatewaysite.settings")

SECRET = "bench-key-that-is-long-enough-and-no-secret"
MODELS = ("bench-fast", "bench-paced", "bench-idle", "bench-slow")
TRANSLATED = "bench-claude"
BALANCED, STICKY = "bench-balanced", "bench-sticky"


def write(upstream_url: str) -> None:
    """Write the rows."""
    from config.money import nanousd  # noqa: PLC0415 - Django must be set up first
    from keys.models import ApiKey, Budget, RateLimit, Tenant  # noqa: PLC0415
    from providers.models import Price, Provider  # noqa: PLC0415
    from proxy.models import CacheExclusion, Route, Target  # noqa: PLC0415

    provider = Provider(name="bench", dialect="openai", base_url=upstream_url, max_connections=10_000)
    provider.set_credential("bench-credential")
    provider.save()
    spare = Provider(name="bench-spare", dialect="openai", base_url=upstream_url)
    spare.save()
    claude = Provider(name="bench-claude", dialect="anthropic", base_url=upstream_url, max_connections=10_000)
    claude.set_credential("bench-credential")
    claude.save()
    for owner, model in [*((provider, model) for model in MODELS), (claude, TRANSLATED)]:
        Price(
            provider=owner,
            model=model,
            input_nanousd_per_mtok=nanousd(Decimal("0.15")),
            output_nanousd_per_mtok=nanousd(Decimal("0.60")),
        ).save()
    route = Route(match="bench-*", kind=Route.Kind.PREFIX)
    route.save()
    Target(route=route, provider=provider, position=0).save()
    Target(route=route, provider=spare, position=1).save()
    route = Route(match=TRANSLATED, kind=Route.Kind.EXACT)
    route.save()
    Target(route=route, provider=claude).save()
    _write_balanced(upstream_url)
    CacheExclusion(kind=CacheExclusion.Kind.REGEX, pattern=".*-preview$").save()
    tenant = Tenant.objects.create(name="bench")
    key, _ = ApiKey.issue(tenant=tenant, name="bench", secret=SECRET, allowed_models=["bench-*", "demo/*"])
    key.save()
    RateLimit(key=key, kind=RateLimit.Kind.REQUESTS, amount=10**9, per=RateLimit.Per.MINUTE).save()
    Budget(key=key, amount_nanousd=nanousd(Decimal(10**6)), window=Budget.Window.MONTH).save()


def _write_balanced(upstream_url: str) -> None:
    """Write routes over three providers that take a number of calls at a time which is never reached."""
    from providers.models import Provider  # noqa: PLC0415 - Django must be set up first
    from proxy.models import Route, Target  # noqa: PLC0415

    providers = []
    for name in ("bench-one", "bench-two", "bench-three"):
        provider = Provider(
            name=name, dialect="openai", base_url=upstream_url, max_connections=10_000, max_concurrency=10_000
        )
        provider.set_credential("bench-credential")
        provider.save()
        providers.append(provider)
    for model, sticky in ((BALANCED, Route.Sticky.NONE), (STICKY, Route.Sticky.USER)):
        route = Route(match=model, kind=Route.Kind.EXACT, strategy=Route.Strategy.WEIGHTED, sticky=sticky)
        route.save()
        for position, provider in enumerate(providers):
            Target(route=route, provider=provider, position=position, weight=5 - 2 * position).save()


if __name__ == "__main__":
    import django

    django.setup()
    from gatewaysite.preparation import prepare

    prepare()
    write(sys.argv[1])
