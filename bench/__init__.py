"""Measures the gateway's speed and memory: `python -m bench`, and `python -m bench.soak`."""
