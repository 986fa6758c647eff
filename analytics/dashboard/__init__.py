"""The tenants' dashboard at /dashboard/: their usage, money, requests, models, keys, members, a playground.

    urls.py       every page, and the right that it asks for
    access.py     who sits where: a person, a tenant, and what the role allows
    ...           a module for each page, forms beside those that have some

Every row that a page shows or changes is looked up through the tenant of its address; who does not belong
to that tenant gets a 404, as if there were none.
"""
