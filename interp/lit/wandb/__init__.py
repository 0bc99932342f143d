"""Weights & Biases: the `logger`, the bounded `end` of a run, its `file` on disk, `artifacts`, and a `workspace`."""
