"""What only a GPU shows: tensors of studies that lie on two devices."""

import pytest
import torch

from interp.probe import Probe
from tests.test_every_plugin import NAMES, QUICK, coloured, make

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("alone", [True, False], ids=["images alone", "with a data set"])
@pytest.mark.parametrize("name", NAMES)
def test_no_part_of_a_study_is_left_out_for_a_device(name: str, alone: bool) -> None:
    net, data = coloured(3)
    probe = data.probe.to(torch.device("cuda"))
    if alone:
        probe = Probe(probe.images, probe.labels, probe.class_names, probe.indices)
    result = make(name, *QUICK.get(name, [])).look(net.cuda(), probe)
    assert result is not None and not [part for part in result.left_out if "device" in part]
    result.pictures()
