"""A training that is cut in the middle."""

import pytest

from hifitse.params import Params
from hifitse.training import train as train_module


def cut(params: Params, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until an error comes at step ``at``; what follows trains as ever."""
    step = train_module.train_step

    def interrupted(state, batches):
        if state.step == at:
            raise ZeroDivisionError
        return step(state, batches)

    monkeypatch.setattr(train_module, "train_step", interrupted)
    with pytest.raises(ZeroDivisionError):
        train_module.train(params, progress=False)
    monkeypatch.setattr(train_module, "train_step", step)
