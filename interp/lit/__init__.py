"""The Lightning side: `classifier`, `data`, `models`, and what `build`s a training from a configuration.

Rooms: the `report` of a run, `sweep`, `checkpoints` and resuming, whose a `run_folder` is, `wandb`, `safety`,
`processes`.
"""
