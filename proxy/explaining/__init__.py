"""Says what would become of a request, and why, without calling anyone.

reading.py      the request read, routed and judged, by the functions of the hot path
facts.py        what is known at the moment of the upstreams and the cache, from the fleet or from reports
order.py        in which order the targets would be tried
targets.py      each target, with the reasons why it would be asked, or not
explanation.py  all of it as one JSON object
disclosure.py   what of that a caller may know
sources.py      where configuration and facts come from in this process
"""
