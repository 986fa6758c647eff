"""What README.md says of limits, budgets and money runs, in its order, on a gateway of its own."""

import re

import httpx

from tests.gateway import running_gateway
from tests.records import rows
from tests.servers import CHECKOUT, eventually
from tests.upstream import bearer

SECTION = (
    (CHECKOUT / "README.md").read_text().partition("## Limits, budgets and money\n")[2].partition("\n## ")[0]
)
KEY = "acme-web-secret-0123456789"


def test_its_commands_do_what_it_says() -> None:
    configure, ask, rerate = re.findall(r"^```sh\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)
    with running_gateway({"CACHE_MODE": "none"}) as gateway:
        run = gateway.bash

        run(configure)
        url = f"{gateway.url}/v1/limits"
        eventually(lambda: httpx.get(url, headers=bearer(KEY)).status_code == 200, what="the new key")
        told = run(ask)
        assert "x-ratelimit-remaining-requests: 59" in told
        assert '"bites_first":{"id":' in told
        (entry,) = eventually(
            lambda: rows(gateway, "SELECT cost_nanousd FROM keys_ledgerentry"), what="the ledger's row"
        )
        assert entry["cost_nanousd"] > 0
        before = run(rerate)
        assert "$" in before
        run(configure.replace('"8.00"', '"80.00"'))
        assert run(rerate) != before
        assert len(rows(gateway, "SELECT id FROM keys_ledgerentry")) == 1
