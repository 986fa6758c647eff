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
    b  another 4xx: let in, and the empty body was refused, or (If-Match is sent) what it was held against
    .  not asked

A method that is left out is not asked; name every method that changes something (POST, PUT, PATCH, DELETE are
sent with an empty body). A parameter that is new gets its value in `belongings` (a tenant's) or `common` of
tests/test_strangers.py, by its name in the route, or by "segment/name" where the segment before it matters.
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
OPERATED = "(proxy/(cacheexclusion|route)|keys/member)"
WATCHED = "(auditlog/logentry|config/jobrun)"

# ---------------------------------------------------------------- what members of tenants come to

AT = re.escape("dashboard/<tenant:tenant>/")
# What is not there is so for everybody: some are asked.
NOT_THERE = "xx..x...x"
NO_WRITES = {"POST": NOT_THERE, "PUT": NOT_THERE, "PATCH": NOT_THERE, "DELETE": NOT_THERE}
NO_CHANGES = {"PUT": NOT_THERE, "PATCH": NOT_THERE, "DELETE": NOT_THERE}


def changes(letters: str) -> dict[str, str]:
    """Return the methods of one resource's address that change it."""
    return {"POST": NOT_THERE, "PUT": letters, "PATCH": letters, "DELETE": letters}


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
    row(r"admin/overview/", GET="iiiii yyyy"),
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
    row(rf"admin/{OPERATED}/({ID}history/)?", GET="iiiii ynyy"),
    row(rf"admin/{OPERATED}/{ID}change/", GET="iiiii ynyy", POST="iiiii nn.."),
    row(rf"admin/{OPERATED}/({ID}delete|add)/", GET="iiiii nnyy", POST="iiiii nn.."),
    row(r"admin/proxy/gatewaysettings/", GET="iiiii rnrr"),
    row(rf"admin/proxy/gatewaysettings/{ID}history/", GET="iiiii ynyy"),
    row(rf"admin/proxy/gatewaysettings/{ID}change/", GET="iiiii ynyy", POST="iiiii nn.."),
    row(rf"admin/proxy/gatewaysettings/({ID}delete|add)/", GET="iiiii nnnn", POST="iiiii nnnn"),
    # Operators change what an upstream does by actions of its list; its form has nothing to save.
    row(rf"admin/(proxy/upstreamstate|{WATCHED})/({ID}history/)?", GET="iiiii ynyy"),
    row(rf"admin/proxy/upstreamstate/{ID}change/", GET="iiiii ynyy", POST="iiiii nn.."),
    row(rf"admin/{WATCHED}/{ID}change/", GET="iiiii ynyy", POST="iiiii nnnn"),
    row(
        rf"admin/(proxy/upstreamstate|{WATCHED})/({ID}delete|add)/",
        GET="iiiii nnnn",
        POST="iiiii nnnn",
    ),
    row(rf"admin/auth/user/({ID}history/)?", GET="iiiii nnyy"),
    row(rf"admin/auth/user/{ID}change/", GET="iiiii nnyy", POST="iiiii nnn."),
    row(rf"admin/auth/user/({ID}delete|add|<id>/password)/", GET="iiiii nnny", POST="iiiii nnn."),
    row(rf"admin/auth/group/({ID}history/)?", GET="iiiii nnny"),
    row(rf"admin/auth/group/({ID}change|{ID}delete|add)/", GET="iiiii nnny", POST="iiiii nnn."),
    # A token of another person is not there for anybody but superusers.
    row(r"admin/gatewaysite/apitoken/", GET="iiiii nnny"),
    row(rf"admin/gatewaysite/apitoken/{ID}history/", GET="iiiii rrry"),
    row(rf"admin/gatewaysite/apitoken/({ID}change|{ID}delete|add)/", GET="iiiii nnny", POST="iiiii nnn."),
    # ------------------------------------------------------------ buttons of the admin
    row(r"admin/analytics/requestlog/live/", GET="iiiii yyyy"),
    row(r"admin/analytics/requestlog/of/<str:completion_id>/", GET="iiiii rrrr"),
    row(rf"admin/config/jobrun/{ID}run/", GET="iiiii nnyy", POST="iiiii nn.."),
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
    # ------------------------------------------------------------ the dashboard; staff visit it
    row(r"dashboard/", GET="i rrrr yyyy", POST=NOT_THERE),
    row(
        rf"{AT}((errors|keys|models|requests)/|requests/<int:ref>/|(requests|usage-by-<slug:by>)\.csv)?",
        GET="i myyy yyyy",
        POST=NOT_THERE,
    ),
    # acme's key is one that operators made: members look at it, and nobody there deletes it.
    row(rf"{AT}keys/<int:ref>/", GET="i myyy yyyy", POST="i mnny nnnn"),
    row(rf"{AT}keys/<int:ref>/rotate/", GET="i mnny nnnn", POST="i mnny nnnn"),
    row(rf"{AT}keys/<int:ref>/switch/", GET=NOT_THERE, POST="i mnn. nnnn"),
    row(rf"{AT}keys/<int:ref>/delete/", GET="i mnnn nnnn", POST="i mnnn nnnn"),
    row(rf"{AT}keys/new/", GET="i mnyy nnnn", POST="i mnyy nnnn"),
    row(rf"{AT}playground/(cost/)?", GET="i mnyy nnnn", POST=NOT_THERE),
    row(rf"{AT}playground/key/", GET=NOT_THERE, POST="i mn.. nnnn"),
    row(rf"{AT}(members|settings)/", GET="i mnny nnnn", POST="i mnny nnnn"),
    row(rf"{AT}members/<int:ref>/", GET=NOT_THERE, POST="i mnnr nnnn"),
    row(rf"{AT}members/<int:ref>/remove/", GET=NOT_THERE, POST="i mnn. nnnn"),
    # ------------------------------------------------------------ the management API
    row(r"api/(schema|docs)/", GET="yyyyyyyyy"),
    row(r"api/v1/", GET="mmmmmmmmm", POST="mmmmmmmmm"),
    row(r"api/v1/explain", GET="nnnnn xnxx", POST="nnnnn bnbb"),
    row(r"api/v1/whoami", GET="n yyyy yyyy", **NO_WRITES),
    # Of tenants: of a list everybody sees the own part.
    row(r"api/v1/(budget-windows|usage|logs|ledger)", GET="n yyyy yyyy", **NO_WRITES),
    row(r"api/v1/logs/<path:completion_id>", GET="n myyy yyyy", **NO_WRITES),
    row(r"api/v1/(tenants|rate-limits)", GET="n yyyy yyyy", POST="n nnnn nnbb", **NO_CHANGES),
    row(r"api/v1/(tenants/<path:name>|rate-limits/<int:id>)", GET="n myyy yyyy", **changes("n nnnn nnbb")),
    row(r"api/v1/budgets", GET="n yyyy yyyy", POST="n nnnn nbbb", **NO_CHANGES),
    row(r"api/v1/budgets/<int:id>", GET="n myyy yyyy", **changes("n nnnn nbbb")),
    row(
        r"api/v1/budgets/<int:id>/raise",
        GET=NOT_THERE,
        POST="n nnnn nbbb",
        PUT=NOT_THERE,
        PATCH=NOT_THERE,
        DELETE="n nnnn nbbb",
    ),
    row(r"api/v1/tenants/<str:tenant>/members", GET="n mnny ynyy", **NO_WRITES),
    row(r"api/v1/tenants/<str:tenant>/members/<path:username>", GET="n mnny ynyy", **changes("n nnnn nnbb")),
    # Who may make no key in the tenant that the body names is told so then.
    row(r"api/v1/keys", GET="n yyyy yyyy", POST="n bbbb nnbb", **NO_CHANGES),
    row(
        r"api/v1/keys/<path:name>",
        GET="n myyy yyyy",
        POST=NOT_THERE,
        PUT="n nnnn nnbb",
        PATCH="n nnnn nnbb",
        DELETE="n mnnn nnbb",
    ),
    row(r"api/v1/keys/<path:name>/state", GET="n myyy yyyy", **NO_WRITES),
    row(r"api/v1/keys/<path:name>/(rotate|disable|enable)", GET=NOT_THERE, POST="n mnnb nnbb", **NO_CHANGES),
    row(r"api/v1/keys/report-leak", GET="xxxxxxxxx", POST="bbbbbbbbb"),
    # Of operators: no member of a tenant comes in.
    row(r"api/v1/(audit|jobs|config/export)", GET="nnnnn ynyy", **NO_WRITES),
    row(r"api/v1/config/apply", GET=NOT_THERE, POST="nnnnn nnbb", **NO_CHANGES),
    row(r"api/v1/cache/purge", GET=NOT_THERE, POST="nnnnn nn..", **NO_CHANGES),
    row(
        r"api/v1/settings",
        GET="nnnnn ynyy",
        POST=NOT_THERE,
        PUT="nnnnn nnbb",
        PATCH="nnnnn nnbb",
        DELETE=NOT_THERE,
    ),
    row(r"api/v1/(routes|cache/exclusions)", GET="nnnnn ynyy", POST="nnnnn nnbb", **NO_CHANGES),
    row(
        r"api/v1/(routes/<str:kind>/<path:match>|cache/exclusions/<str:kind>/<path:pattern>)",
        GET="nnnnn ynyy",
        **changes("nnnnn nnbb"),
    ),
    row(r"api/v1/providers", GET="nnnnn yyyy", POST="nnnnn nnbb", **NO_CHANGES),
    row(r"api/v1/providers/<path:name>", GET="nnnnn yyyy", **changes("nnnnn nnbb")),
    row(r"api/v1/providers/<str:name>/models", GET="nnnnn yyyy", **NO_WRITES),
    row(r"api/v1/providers/<str:name>/health", GET="nnnnn ynyy", **NO_WRITES),
    row(r"api/v1/prices", GET="nnnnn yyyy", POST="nnnnn nbbb", **NO_CHANGES),
    row(
        r"api/v1/prices/<str:provider>/<str:effective_from>/<path:model>",
        GET="nnnnn yyyy",
        **changes("nnnnn nbbb"),
    ),
)
