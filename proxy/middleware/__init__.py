"""Middleware of requests and answers, by dotted paths in REQUEST_MIDDLEWARE and RESPONSE_MIDDLEWARE.

base           the protocols, and what they are given
chain          the configured ones in their order; what happens when one fails
entrance       a request on its way through the request middlewares
redaction      personal data and secrets: patterns, shapes, checks (what is found), scanner, arguments
               (text in pieces), walking, deltas (bodies and streams)
webhook, elasticsearch   finished completions to other systems, by sink and background
headers        the same headers on every answer

How the gateway uses it, and all that it need know:

    chains = chain.configured()                      once; `proxy.apps` has done it at start
    if chains.request:                               after authentication, before reading and routing
        asked = await chains.request.request(Asked(endpoint, headers, body, caller))
        the body is to be written anew only if `asked.body` is another object; headers likewise
    watching = chains.response.begin(Context(completion, call, caller)) if chains.response else None
                                                     once for an answer, before an upstream is asked
    watching.require_all()     when the exchange knows of it: somebody may have failed to begin
    watching.changes_events    a stream is to be translated even where vendor and client speak one format:
                               `proxy.plain` reads all that OpenAI's chunks say, but of the others'
                               (messages, responses) not what is native to them, such as signatures
    watching.head(headers)     the list of a reply's wire headers, in place, before the head goes out
    watching.events(events)    what to write instead; may be empty even if `events` was not. It takes care of
                               `proxy.plain`. An ERROR event (providers.events.failed_event) must be
                               shown, too, and what comes back before it is still content for the client
    watching.answer(answer)    what to write instead of a whole answer (`renderers.chat.enveloped`), before
                               its head (proxy.watched)
    watching.finished(completion)   on every exit, after the exchange has ended; never waits or raises
    chains.response.close()    at shutdown; blocks for two seconds at most, so in a thread

The cache keeps what a vendor said, not what middleware made of it: a replay goes through the chain again.
Usage is counted of the events before they are changed. MiddlewareFailed is a GatewayError: 500, or the typed
error event of a stream.
"""
