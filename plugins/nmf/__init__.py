"""Neuron groups at a layer, epoch by epoch: `NMFResult` and `NMFPlugin`."""

from plugins.nmf.plugin import NMFPlugin, NMFResult

__all__ = ["NMFPlugin", "NMFResult"]
