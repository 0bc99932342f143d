"""What the tests of the science share."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def one_thread(request):
    """Dissection's tests handle small arrays: on a busy machine threads cost them ten times what they save."""
    threads = torch.get_num_threads()
    if "dissection" in request.module.__name__:
        torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
