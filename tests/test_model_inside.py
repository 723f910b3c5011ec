"""The model that comes with the library can be trained on where the run that made it is gone."""

import json

import pytest
import torch

from hifitse import HifitseError
from hifitse.model import Extractor
from hifitse.model.pretrained import DEFAULT
from hifitse.params import Params
from hifitse.training.run import Run
from hifitse.training.state import new_state

RUN = json.loads((DEFAULT / "metrics.json").read_text(encoding="utf-8"))["run"]


def test_a_training_begins_with_the_weights_of_the_model_inside(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HIFITSE_RUNS", str(tmp_path))
    run = Run.named(RUN)
    assert run.finished
    changes = {"start_from": RUN, "steps": 3, "freeze_norms": False, "corpus": "synthetic", "noise": "synthetic", "rooms": "synthetic"}
    state = new_state(Params(**(run.params.model_dump() | changes)))
    inside = Extractor.from_pretrained().state_dict()
    assert all(torch.equal(weight, inside[name]) for name, weight in state.model.state_dict().items())


def test_any_other_run_that_is_gone_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HIFITSE_RUNS", str(tmp_path))
    with pytest.raises(HifitseError, match="0123456789abcdef"):
        Run.named("0123456789abcdef")
