"""What each kind of person gets of each URL. tests/test_strangers.py walks the URLconf against it.

**To add URLs** append rows: `row(route, GET="...", POST="...")`. `route` is a regular expression that must
match the whole route as the URLconf writes it (r"dashboard/keys/<int:key_id>/" for that very route); one row
may stand for many routes, no route may match two rows. Each string has one letter for each of PEOPLE:

    y  2xx: they see it, or it is done
    i  a redirect to sign-in
    r  a redirect to elsewhere
    n  401 or 403
    m  404: as if it did not exist (another tenant's object must look so)
    x  405
    b  another 4xx: let in, and the empty body was refused
    .  not asked

A method that is left out is not asked; name every method that changes something (POST, PUT, PATCH, DELETE are
sent with an empty body). A parameter that is new gets its value in `belongings` (a tenant's) or `common` of
tests/test_strangers.py, by its name in the route.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

PEOPLE = (
    "anonymous",
    "stranger",  # the owner of another tenant
    "viewer",
    "member",
    "owner",
    "read-only",
    "billing",
    "operator",
    "superuser",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One or many routes, and method -> a letter for each of PEOPLE."""

    route: str
    methods: Mapping[str, str]


def row(route: str, **methods: str) -> Row:
    """Return a row. Blanks in its strings are for the eye."""
    return Row(route, {method: letters.replace(" ", "") for method, letters in methods.items()})


# ---------------------------------------------------------------- the admin, by what billing may do there

ID = re.escape("<path:object_id>/")
# Nobody changes these there; rows of people's work are written by the gateway.
RECORDS = (
    "(analytics/(requestlog|rerating|vendorimport)|keys/(budgetalert|ledgerentry)|providers/providermodel)"
)
MONEY = "(keys/budget|providers/price)"
LOOKED_AT = "(keys/(apikey|ratelimit|tenant)|providers/provider)"
TRAFFIC = "proxy/(cacheexclusion|route)"

TABLE: tuple[Row, ...] = (
    row(r"", GET="yyyyyyyyy", POST="xxxxxxxxx"),
    # ------------------------------------------------------------ sign-in
    row(r"accounts/(no-access/)?", GET="i rrrr rrrr"),
    row(r"accounts/login/", GET="y rrrr rrrr", POST="y rrrr rrrr"),
    row(r"accounts/logout/", GET="i yyyy yyyy", POST="i........"),
    row(r"accounts/(inactive/|connections/cancelled/)", GET="yyyyyyyyy"),
    row(r"accounts/connections/error/", GET="nnnnnnnnn"),
    row(r"accounts/signup/", GET="nnnnnnnnn", POST="nnnnnnnnn"),
    # Of people who have neither a password nor a second factor.
    row(r"accounts/password/change/", GET="i rrrr rrrr", POST="i rrrr rrrr"),
    row(
        r"accounts/(password/set/|reauthenticate/|2fa/reauthenticate/)", GET="i nnnn nnnn", POST="i nnnn nnnn"
    ),
    row(r"accounts/2fa/", GET="i yyyy yyyy"),
    row(r"accounts/2fa/authenticate/", GET="i rrrr rrrr", POST="i rrrr rrrr"),
    row(r"accounts/2fa/recovery-codes/(download/)?", GET="i mmmm mmmm"),
    row(r"accounts/2fa/totp/deactivate/", GET="i mmmm mmmm", POST="i mmmm mmmm"),
    row(
        r"accounts/(2fa/recovery-codes/generate/|2fa/totp/activate/|connections/)",
        GET="i yyyy yyyy",
        POST="i yyyy yyyy",
    ),
    row(r"accounts/oidc/<slug:provider_id>/login/(callback/)?", GET="mmmmmmmmm", POST="mmmmmmmmm"),
    # ------------------------------------------------------------ the admin's own pages
    row(r"admin/login/", GET="i nnnn rrrr", POST="i nnnn rrrr"),
    row(r"admin/logout/", GET="rrrrr xxxx"),
    row(r"admin/(search/|jsi18n/|password_change/(done/)?)?", GET="iiiii yyyy"),
    row(r"admin/\(\?P<app_label>.*", GET="iiiii yyyy"),
    row(r"admin/\(\?P<url>.*", GET="iiiii mmmm"),
    row(r"admin/autocomplete/", GET="iiiii nnnn"),
    row(r"admin/r/.*", GET="iiiii mmmm"),
    row(rf"admin/\w+/\w+/{ID}", GET="iiiii rrrr"),
    # ------------------------------------------------------------ lists and forms of the admin
    row(rf"admin/({RECORDS}|{MONEY}|{LOOKED_AT})/({ID}history/)?", GET="iiiii yyyy"),
    row(rf"admin/{RECORDS}/{ID}change/", GET="iiiii yyyy", POST="iiiii nnnn"),
    row(rf"admin/{RECORDS}/({ID}delete|add)/", GET="iiiii nnnn", POST="iiiii nnnn"),
    row(rf"admin/{MONEY}/{ID}change/", GET="iiiii yyyy", POST="iiiii n..."),
    row(rf"admin/{MONEY}/({ID}delete|add)/", GET="iiiii nyyy", POST="iiiii n..."),
    row(rf"admin/{LOOKED_AT}/{ID}change/", GET="iiiii yyyy", POST="iiiii nn.."),
    row(rf"admin/{LOOKED_AT}/({ID}delete|add)/", GET="iiiii nnyy", POST="iiiii nn.."),
    row(rf"admin/{TRAFFIC}/({ID}history/)?", GET="iiiii ynyy"),
    row(rf"admin/{TRAFFIC}/{ID}change/", GET="iiiii ynyy", POST="iiiii nn.."),
    row(rf"admin/{TRAFFIC}/({ID}delete|add)/", GET="iiiii nnyy", POST="iiiii nn.."),
    row(r"admin/proxy/gatewaysettings/", GET="iiiii rnrr"),
    row(rf"admin/proxy/gatewaysettings/{ID}history/", GET="iiiii ynyy"),
    row(rf"admin/proxy/gatewaysettings/{ID}change/", GET="iiiii ynyy", POST="iiiii nn.."),
    row(rf"admin/proxy/gatewaysettings/({ID}delete|add)/", GET="iiiii nnnn", POST="iiiii nnnn"),
    # Operators change what an upstream does by actions of its list; its form has nothing to save.
    row(rf"admin/(proxy/upstreamstate|auditlog/logentry)/({ID}history/)?", GET="iiiii ynyy"),
    row(rf"admin/proxy/upstreamstate/{ID}change/", GET="iiiii ynyy", POST="iiiii nn.."),
    row(rf"admin/auditlog/logentry/{ID}change/", GET="iiiii ynyy", POST="iiiii nnnn"),
    row(
        rf"admin/(proxy/upstreamstate|auditlog/logentry)/({ID}delete|add)/",
        GET="iiiii nnnn",
        POST="iiiii nnnn",
    ),
    row(rf"admin/auth/user/({ID}history/)?", GET="iiiii nnyy"),
    row(rf"admin/auth/user/{ID}change/", GET="iiiii nnyy", POST="iiiii nnn."),
    row(rf"admin/auth/user/({ID}delete|add|<id>/password)/", GET="iiiii nnny", POST="iiiii nnn."),
    row(rf"admin/auth/group/({ID}history/)?", GET="iiiii nnny"),
    row(rf"admin/auth/group/({ID}change|{ID}delete|add)/", GET="iiiii nnny", POST="iiiii nnn."),
    # ------------------------------------------------------------ buttons of the admin
    row(r"admin/auditlog/logentry/verify/", GET="iiiii rnrr"),
    row(rf"admin/analytics/rerating/({ID}apply_run|preview)/", GET="iiiii nyyy", POST="iiiii n..."),
    row(r"admin/analytics/rerating/make_preview/", GET="iiiii nrrr", POST="iiiii n..."),
    row(r"admin/analytics/vendorimport/drift/", GET="iiiii yyyy", POST="iiiii n..."),
    row(r"admin/analytics/vendorimport/open_drift/", GET="iiiii rrrr"),
    row(rf"admin/keys/apikey/{ID}rotate/", GET="iiiii nnyy", POST="iiiii nn.."),
    row(rf"admin/providers/price/{ID}copy_price/", GET="iiiii nrrr"),
    row(rf"admin/providers/provider/{ID}test_provider/", GET="iiiii nnyy", POST="iiiii nn.."),
    row(
        rf"admin/proxy/(cacheexclusion|gatewaysettings/{ID[:-1]})/purge_cache/",
        GET="iiiii nnyy",
        POST="iiiii nn..",
    ),
    row(rf"admin/proxy/route/({ID}explain_this|explain_any)/", GET="iiiii rnrr"),
    row(r"admin/proxy/route/explain/", GET="iiiii ynyy", POST="iiiii ynyy"),
    # ------------------------------------------------------------ the management API
    row(r"api/v1/", GET="mmmmmmmmm", POST="mmmmmmmmm"),
    row(r"api/v1/explain", GET="nnnnn xnxx", POST="nnnnn bnbb"),
    row(r"api/v1/keys/report-leak", GET="xxxxxxxxx", POST="bbbbbbbbb"),
)
