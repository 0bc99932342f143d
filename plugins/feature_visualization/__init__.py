"""What channels of layers look for: `FeatureVisualizationResult`, its view, and `FeatureVisualizationPlugin`."""

from plugins.feature_visualization.plugin import FeatureVisualizationPlugin
from plugins.feature_visualization.result import FeatureVisualizationResult

__all__ = ["FeatureVisualizationPlugin", "FeatureVisualizationResult"]
