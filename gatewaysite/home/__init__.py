"""The admin's first page: what needs attention, how traffic went, and how the gateway itself does.

page.py puts it together, of: ranges (which time), figures (cards and charts), breakdowns (tables by who and
what), health (providers, workers, spool), nearness (budgets, rate limits), attention (what is wrong), latest
(requests).
"""
