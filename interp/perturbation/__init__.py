"""Images made harder: `disturbed` by noise, rotation or shuffled patches with their labels, and under `attack`."""
