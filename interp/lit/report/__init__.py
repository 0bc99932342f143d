"""The report of a run: the `logger` writes scalars of the harness, `page` makes report.html of the run's folder."""
