"""The fleet: what the gateway knows of its upstreams at the moment, beside what is configured of them.

Configuration (providers.upstream.Upstream, a Snapshot) is immutable and replaced as a whole. What is here
changes with every attempt, is found by an upstream's id, and outlives configurations: a reload forgets
nothing. It lives on the event loop of one process, without locks.

    breaker     has it failed too often lately?            latency     how fast has it been?
    cooling     who has told us to wait, and until when    quotas      what is left, by the vendor's headers
    gate        how many calls at a time, and who waits    strategies  in which order targets are tried
    standing    all of that of one upstream                visit       one attempt, from its start to its end
    registry    the Fleet: all standings of this process
"""
