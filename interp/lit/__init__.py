"""The Lightning side: LightningModule, data, model builders, checkpoints and the local report."""
