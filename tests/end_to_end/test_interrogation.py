"""experiment=interrogation on the digits: the figures of the document's README, the untrained network included."""

import json


def test_the_pipeline_trains_evaluates_and_shows_everything(train, tmp_path):
    small = ["data=digits", "trainer.max_epochs=1", "trainer.limit_train_batches=8", "plugin.projection.images=100",
             "data.probe_images=4"]  # fmt: skip
    small += ["data.size=12", "plugin.saliency.steps=8", "plugin.saliency.samples=4", "test=true"]
    run = train(tmp_path, "experiment=interrogation", *small, quick=False)
    figures = {"saliency": "panels", "confusion": "rows", "projection": "scatter"}
    for plugin, picture in figures.items():
        for epoch in ("epoch=0000", "epoch=0001"):
            assert (tmp_path / "results" / plugin / epoch / f"{picture}.png").is_file()
    report = (tmp_path / "report.html").read_text()
    assert all(f'id="study-{index}">{plugin}<' in report for index, plugin in enumerate(sorted(figures), start=1))
    assert run.checkpoint("best")["epoch"] == 0 and list((tmp_path / "tensorboard").glob("*/projection/sprite.png"))
    checks = json.loads((tmp_path / "results" / "saliency" / "epoch=0001" / "result.json").read_text())["scalars"]
    assert {"gradient/weights_correlation", "integrated_gradients/completeness_error"} <= checks.keys()
    assert not any("failed" in name and value for name, value in checks.items())
