"""What a resumed run takes along: the epochs in their order."""

import torch

from interp.lit.resume import carry_over
from interp.lit.run_files import read_figures
from interp.looks import look_folder, looks
from plugins.report import draw_last
from tests.studies import Confidence, ConfidencePlugin


def test_epochs_are_in_the_order_of_their_numbers(tmp_path):
    study = tmp_path / "results" / "sure"
    for epoch in (9999, 10000, 3):
        Confidence(torch.tensor([epoch / 1e5])).save(look_folder(study, epoch), epoch=epoch)
    for name in ("epoch=9999_keep", "epoch=", "epoch=x", "epoch=12345678901", "epoch=\N{ARABIC-INDIC DIGIT THREE}"):
        (study / name).mkdir()
    assert [epoch for epoch, _ in looks(study)] == [3, 9999, 10000]
    followed: list[float] = []

    class Follows(Confidence):
        def following(self, previous: Confidence) -> Confidence:
            followed.append(round(float(previous.highest), 5))
            return self

    for epoch in (10001, 10000, 3):
        ConfidencePlugin(name="sure").continued(Follows(torch.zeros(1)), study, epoch=epoch)
    assert followed == [0.1, 0.09999]
    assert draw_last(tmp_path) == 1 and (study / "epoch=10000" / "bars.png").is_file()
    (figure,) = read_figures(tmp_path, [], {})
    assert [shot.epoch for shot in figure.shots] == [10000]


def test_what_a_person_has_named_stays_where_a_run_is_resumed(tmp_path):
    study, looked = tmp_path / "results" / "nmf", ("epoch=0001", "epoch=0001_keep", "epoch=0002", "epoch=0002_keep")
    for folder in (tmp_path / ".hydra", tmp_path / "checkpoints", *(study / name for name in looked)):
        folder.mkdir(parents=True)
    carry_over(tmp_path / "checkpoints" / "last.ckpt", {"epoch": 0}, tmp_path)
    assert {path.name for path in study.iterdir()} == {"epoch=0001", "epoch=0001_keep", "epoch=0002_keep"}
