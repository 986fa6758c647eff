"""The index of finished completions: Elasticsearch, OpenSearch, or what speaks their bulk API."""

from collections.abc import Sequence

import httpx
import orjson
import structlog
from django.conf import settings

from proxy.middleware.sink import Record, Sink, Unsent, require_taken, usable

log = structlog.get_logger()

_THERE = 409  # the status of a record that has come before


class ElasticsearchTarget:
    """Creates each record under its id by the bulk API: what is sent twice is there once (409 says so).

    https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-bulk; data streams take it, too.
    """

    name = "completion_elasticsearch"

    def __init__(self, url: str, *, index: str, api_key: str) -> None:
        """Send to the cluster at `url`."""
        self._url, self._index = url.rstrip("/") + "/_bulk", index
        self._headers = {"content-type": "application/x-ndjson"}
        if api_key:
            self._headers["authorization"] = f"ApiKey {api_key}"

    def send(self, client: httpx.Client, records: Sequence[Record]) -> Sequence[Record]:
        """Send a batch; return what the cluster had no room for at the moment (429)."""
        lines = [
            orjson.dumps(line)
            for record in records
            for line in (
                {"create": {"_index": self._index, "_id": record["id"]}},
                {"@timestamp": int(record["at"] * 1000), **record},
            )
        ]
        reply = client.post(self._url, content=b"\n".join(lines) + b"\n", headers=self._headers)
        require_taken(reply)
        return _busy(reply, records)


class CompletionElasticsearch(Sink):
    """The middleware of COMPLETION_ELASTICSEARCH_URL."""

    def __init__(self) -> None:
        """Take the options from the environment. Raises ImproperlyConfigured."""
        env = settings.GATEWAY
        super().__init__(
            ElasticsearchTarget(
                usable(env.completion_elasticsearch_url, "COMPLETION_ELASTICSEARCH_URL"),
                index=env.completion_elasticsearch_index,
                api_key=env.completion_elasticsearch_api_key,
            )
        )


def _busy(reply: httpx.Response, records: Sequence[Record]) -> Sequence[Record]:
    """Return the records that a bulk answer says to send again; others that were refused are logged."""
    try:
        said = orjson.loads(reply.content)
        results = [next(iter(item.values())) for item in said["items"]] if said["errors"] else []
        statuses = [int(result["status"]) for result in results]
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration):
        raise Unsent("the answer is none of the bulk API", lasting=True) from None
    again = [record for record, status in zip(records, statuses, strict=False) if _is_busy(status)]
    refused = sum(status >= 400 and status != _THERE and not _is_busy(status) for status in statuses)
    if refused:
        log.warning("completions_refused", target=ElasticsearchTarget.name, count=refused)
    return again


def _is_busy(status: int) -> bool:
    return status == 429 or status >= 500
