"""What channels of layers look for: `FeatureVisualizationResult` and `FeatureVisualizationPlugin`."""

from plugins.feature_visualization.plugin import FeatureVisualizationPlugin, FeatureVisualizationResult

__all__ = ["FeatureVisualizationPlugin", "FeatureVisualizationResult"]
