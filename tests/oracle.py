"""A small oracle in float64 NumPy, of the definitions alone: what a plain clone checks the methods against.

P positions, C channels, K groups, J classes.
"""

import numpy as np


def group_effects(activations, spatial, channel, slopes):
    """Effects (J, K) of groups on logits to first order, of what they leave out (J,), and of each channel (J, C).

    Of activations (P, C), factors (P, K) and (K, C), and slopes (J, P, C), the gradients of the logits.
    """
    classes, groups, channels = len(slopes), len(channel), activations.shape[1]
    effects, of_channels = np.zeros((classes, groups)), np.zeros((classes, channels))
    for j in range(classes):
        for k in range(groups):
            effects[j, k] = (np.outer(spatial[:, k], channel[k]) * slopes[j]).sum()
        of_channels[j] = (activations * slopes[j]).sum(axis=0)
    return effects, ((activations - spatial @ channel) * slopes).sum(axis=(1, 2)), of_channels


def distance_from_optimum(rows, spatial, channel):
    """How far non-negative factors (P, K), (K, C) of rows (P, C) are from where no small step helps; 0 is there.

    The Karush-Kuhn-Tucker conditions of min |rows - spatial channel|^2: a gradient of 0 where a factor is positive, and
    not below 0 where it is 0; relative to the gradient at 0.
    """
    residual = spatial @ channel - rows
    total = 0.0
    for factor, gradient in ((spatial, residual @ channel.T), (channel, spatial.T @ residual)):
        projected = np.where(factor > 0, gradient, np.minimum(gradient, 0))
        total += (projected**2).sum()
    scale = ((rows @ channel.T) ** 2).sum() + ((spatial.T @ rows) ** 2).sum()
    return float(np.sqrt(total / scale))
