"""What a vision network sees: pure functions from tensors and modules to dataclasses of tensors.

Letters used for sizes everywhere: B images, C channels (units), H x W pixels or positions, K groups, J classes,
L labels (concepts), U units, N rows (positions of all images). Images are float32 in [0, 1]; a network normalises its
own input. Epoch 0 is before training, epoch n after n epochs.
"""
