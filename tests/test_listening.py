"""Test what is heard: players, the choice of examples, and their mixtures."""

import base64
import io
import re
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import soundfile
from arms import SMOKE, made_up_arm, made_up_rows
from sounds import tone

from hifitse.data.mixing import Mixture
from hifitse.report import listening

# ---- players


def decoded(fragment: str) -> list[np.ndarray]:
    return [soundfile.read(io.BytesIO(base64.b64decode(data)))[0] for data in re.findall(r"base64,([^\"]+)", fragment)]


def test_players_share_one_gain_and_do_not_clip():
    loud, quiet = decoded(listening.players({"mixture": tone(440, 3.0), "target": tone(440, 0.3)}, "test"))
    assert np.abs(loud).max() < 1
    assert loud.std() / quiet.std() == pytest.approx(10, rel=0.02)
    assert loud.std() == pytest.approx(listening.PEAK / np.sqrt(2), rel=0.03)


@pytest.mark.parametrize("hertz", [1000, 17_500])
def test_players_keep_what_48_khz_is_about_and_silence_silent(hertz):
    heard, silent = decoded(listening.players({"mixture": tone(hertz, 0.5), "target": np.zeros(48_000, np.float32)}, "test"))
    assert np.abs(silent).max() < 1e-4
    spectrum = np.abs(np.fft.rfft(heard[12_000:36_000] * np.hanning(24_000))) / 6000
    assert 20 * np.log10(spectrum[hertz // 2]) == pytest.approx(20 * np.log10(listening.PEAK), abs=1.0)


def test_players_are_labelled_and_escaped():
    text = listening.players({"<i>mixture": tone(440, 0.5)}, 'best "one"')
    assert "<i>" not in text and 'aria-label="&lt;i&gt;mixture, best &#34;one&#34;, 1.0 seconds"' in text


def test_examples_are_best_median_worst_and_absent():
    rows = made_up_rows()
    chosen = listening.choose(rows)
    gains = sorted(row["si_sdri_db"] for row in rows if row["present"])
    assert list(chosen) == ["best", "median", "worst", "target absent"]
    assert chosen["best"]["si_sdri_db"] == gains[-1] and chosen["worst"]["si_sdri_db"] == gains[0]
    assert chosen["median"]["si_sdri_db"] in gains[18:22] and not chosen["target absent"]["present"]
    assert listening.choose([]) == {}


def test_caption_names_what_was_measured_and_mixed():
    row = {"present": True, "n_interferers": 2, "si_sdri_db": 3.25, "si_sdri_wrong_enroll_db": -0.01, "sir_db": -4.0}
    text = listening.caption(listening.Example("best", row, {}))
    assert text == "SI-SDRi +3.2 dB, with the wrong enrolment 0.0 dB, 2 interferers, SIR −4.0 dB, no noise, no room"


def made_up_mixture(present: bool = True) -> Mixture:
    rng = np.random.default_rng(0)
    target, first, second, noise = (rng.normal(size=(4, 48_000)) * [[0.1], [0.02], [0.3], [0.01]]).astype(np.float32)
    target = target * present
    enroll = rng.normal(size=(1, 24_000)).astype(np.float32)
    others = np.stack([first, second])
    return Mixture(target + others.sum(0) + noise, target, others, noise, enroll, enroll[:, ::-1].copy(), {"id": "test-0"})


def test_listening_takes_the_mixtures_of_the_evaluation_not_of_the_training(monkeypatch):
    asked = []

    def mixture(seed, index, conditions, wrong_enroll):
        assert wrong_enroll == (not conditions.absent)
        asked.append((seed, conditions.name, index, conditions.snr_min_db))
        return made_up_mixture(present=not conditions.absent)

    mixer = mock.Mock(return_value=mock.Mock(mixture=mixture))
    monkeypatch.setattr(listening, "list_mixer", mixer)
    rows = made_up_rows(count=5) + [made_up_rows(count=2)[1] | {"list": "partial", "index": index} for index in range(2)]
    others = {"corpus_seed": 3, "eval_seed": 7, "snr_min_db": [2.0]}
    arm = replace(made_up_arm(rows), evaluation=SMOKE.model_copy(update=others))
    clips = {example.name: list(example.clips) for example in listening.examples(arm)}
    assert clips["best"] == ["mixture", "target", "estimate", "enrolment", "estimate with the wrong enrolment"]
    assert "target" not in clips["target absent"]
    assert asked == [(7, "test", row["index"], 2.0) for row in listening.choose(made_up_rows(count=5)).values()]
    times, levels, likeness = listening.presence(arm)
    assert likeness is None, "this model has no verifier"
    assert asked[4:] == [(7, "partial", index, 2.0) for index in range(2)]
    assert len(times) == len(levels["target"]) == 10
    assert levels["target"][0] == pytest.approx(20 * np.log10(0.1), abs=0.5)
    assert {(params.corpus_seed, split) for (params, split), _ in mixer.call_args_list} == {(3, "test")}
