"""``python -m tests.demo``: the example project with two days of traffic to look at."""
