"""Full-size runs, too long for the test suite: `python -m bench.soak` (= `make soak`)."""
