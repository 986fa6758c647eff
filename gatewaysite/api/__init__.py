"""The management API under /api/v1/: everything that operators and tenants do in a browser, for programs.

    urls.py        every path                 schema.py   how OpenAPI describes them
    tokens.py      secrets and scopes         access.py   who may do what, and whose rows
    named.py       resources that the configuration file has too, written by its own code
    rows.py        limits, budgets, members   records.py  logs, ledger, audit log, jobs
    usage.py       sums of usage              documents.py  export, apply, purge

One vocabulary: a provider, route, tenant, key or price is the same JSON here as it is YAML in a file.
"""
