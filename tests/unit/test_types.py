"""The records that flow from data to result."""

import torch
from torch.func import vmap

from jepa.types import Batch


def test_a_batch_from_a_frame_on() -> None:
    values = torch.arange(5.0)
    batch = Batch(values, values[:4], values + 10, {"class": values.long()})
    later = batch.from_frame(2)
    assert later.states.tolist() == [2, 3, 4] and later.actions.tolist() == [2, 3]
    assert later.locations.tolist() == [12, 13, 14] and later.targets["class"].tolist() == [2, 3, 4]
    assert Batch(values, values[:4], values).from_frame(1).targets == {}


def test_targets_are_mapped_over_packed_jobs() -> None:
    values = torch.arange(6.0).view(2, 3)
    batch = vmap(lambda value: Batch(value, value, value, {"class": (2 * value).long()}))(values)
    assert batch.targets["class"].tolist() == [[0, 2, 4], [6, 8, 10]]
