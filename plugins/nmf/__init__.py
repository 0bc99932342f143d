"""Neuron groups at a layer, epoch by epoch: `NMFResult`, its view, and `NMFPlugin`."""

from plugins.nmf.plugin import NMFPlugin
from plugins.nmf.result import NMFResult

__all__ = ["NMFPlugin", "NMFResult"]
