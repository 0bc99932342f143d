"""Sweeps: `gather` is Hydra's callback around the `jobs`, `page` makes sweep.html of them, `launchers` start them."""
