"""A training on many processes: how it ends on all of them together (`ending`), and what `torchrun` starts."""
