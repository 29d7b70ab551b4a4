"""``python -m example_project.demo``: the example project with two days of traffic to look at."""
