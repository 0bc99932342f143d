"""Hydra configuration: one folder a group, and the check of the composed configuration."""
