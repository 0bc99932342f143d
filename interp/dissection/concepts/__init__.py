"""Images with the concepts in them, a label a pixel or an image: the harness's own, Broden, segmentations."""
