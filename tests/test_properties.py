"""Test what must hold for any sound, any parameters and any mixture, on examples that nobody thought of."""

import json
from functools import cache
from math import ceil
from typing import Annotated, Any, get_origin

import numpy as np
import pytest
import soundfile
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sounds import noise, small

from hifitse import SAMPLE_RATE, audio, presets
from hifitse.data.mixing import Mixer
from hifitse.data.scene import Conditions
from hifitse.metrics import bootstrap, paired, si_sdr, si_sdri
from hifitse.params import ParameterError, Params

RATES = st.sampled_from([8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 192_000])
SEEDS = st.integers(0, 2**31 - 1)
FEW = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
"""All examples use a fixture's folder in turn: each writes its own file before reading it."""


@FEW
@given(SEEDS, st.integers(1, 5_000), st.floats(-90, -1), st.sampled_from(["wav", "flac"]))
def test_what_is_written_is_read_again(tmp_path, seed, samples, level, suffix):
    signal = audio.set_level(noise(samples, seed), level)
    audio.write(tmp_path / f"a.{suffix}", signal)
    info, got = audio.info(tmp_path / f"a.{suffix}"), audio.read(tmp_path / f"a.{suffix}")
    assert info.samples == len(got) == samples
    if suffix == "wav":
        np.testing.assert_array_equal(got, signal)
    else:
        assert np.abs(got - np.clip(signal, -1, 1)).max() <= 2**-23


@FEW
@given(SEEDS, RATES, st.integers(1, 6_000), st.lists(st.floats(0, 1), max_size=4), st.integers(1, 3))
def test_any_split_of_a_read_equals_the_whole(tmp_path, seed, rate, frames, cuts, channels):
    soundfile.write(tmp_path / "a.wav", noise(frames * channels, seed).reshape(frames, channels), rate, subtype="FLOAT")
    whole = audio.read(tmp_path / "a.wav")
    assert len(whole) == audio.info(tmp_path / "a.wav").samples == round(frames * SAMPLE_RATE / rate)
    edges = sorted({0, len(whole), *(round(cut * len(whole)) for cut in cuts)})
    parts = [audio.read(tmp_path / "a.wav", start, stop - start) for start, stop in zip(edges, edges[1:], strict=False)]
    joined = np.concatenate([np.zeros(0, np.float32), *parts])
    assert joined.shape == whole.shape and np.abs(joined - whole).max(initial=0) < (0 if rate == SAMPLE_RATE else 1e-4) + 1e-9


@FEW
@given(SEEDS, RATES, RATES, st.integers(50, 200), st.integers(0, 8_000))
def test_resampling_and_speed_give_the_length_and_keep_silence_and_scale(seed, there, back, percent, samples):
    signal = noise(samples, seed)
    once, fast = audio.resample(signal, there, back), audio.change_speed(signal, percent / 100)
    assert abs(len(once) - samples * back / there) <= 1 and len(fast) == ceil(samples * 100 / percent)
    assert once.dtype == fast.dtype == np.float32 and np.isfinite(once).all() and np.isfinite(fast).all()
    assert not audio.change_speed(0 * signal, percent / 100).any()
    np.testing.assert_allclose(audio.resample(2 * signal, there, back), 2 * once, atol=1e-6)
    np.testing.assert_allclose(audio.change_speed(-signal, percent / 100), -fast, atol=1e-6)


def legal(name: str) -> st.SearchStrategy:
    """Return values of a parameter that are allowed on their own."""
    field = Params.model_fields[name]
    if name == "preset":
        return st.from_regex(r"\A[A-Za-z0-9_-]{1,40}\Z")
    if field.annotation is str:
        return st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
    if get_origin(field.annotation) is list:
        return st.lists(st.floats(0, 1) if field.annotation == list[float] else st.integers(0, 8), min_size=1, max_size=3)
    return st.from_type(Annotated[field.annotation, field.description, *field.metadata])


NAMES = st.lists(st.sampled_from(sorted(Params.model_fields)), min_size=1, max_size=4, unique=True)


@settings(max_examples=60)
@given(NAMES.flatmap(lambda names: st.fixed_dictionaries({name: legal(name) for name in names})))
def test_legal_values_go_through_json_yaml_and_the_command_line_and_others_are_one_sentence(values):
    try:
        params = Params(**values)
    except ParameterError as error:  # legal alone, but not together
        named = {"phases" if name == "phase_starts" else name for name in values}  # lists of the wrong length may be those of the defaults
        assert "\n" not in str(error) and any(name in str(error) for name in named | set(values))
        return
    typed = [(name, yaml.safe_dump(value)) for name, value in values.items()]
    spelled = {
        "json": Params.model_validate_json(params.model_dump_json()),
        "yaml": Params(**yaml.safe_load(yaml.safe_dump(params.model_dump()))),
        "command": Params(**presets.values(None, None, [], typed)),
    }
    for way, other in spelled.items():
        assert other == params and other.run_id == params.run_id, way


@cache
def mixer(root: str, similar: bool, augment: bool) -> Mixer:
    values = {"similarity": [0.5 if similar else 0.0], "test_share": 0.34, "enrollments": 2 if augment else 1}
    return Mixer(small(json.loads(root), **values), "test")


@st.composite
def conditions(draw: Any, similar: bool) -> Conditions:
    turns = draw(st.sampled_from([0, 0, 2, 3]))
    seconds = float(turns) + draw(st.sampled_from([0.2, 0.5, 1.0]))
    low = draw(st.integers(0, 2))
    snr = draw(st.floats(-10, 30))
    partial = not turns and draw(st.booleans())
    return Conditions(
        "any", seconds, draw(st.sampled_from([0.0, 0.5, 1.0])), low, low + draw(st.integers(0, 1)), snr, snr + draw(st.floats(0, 10)),
        draw(st.sampled_from([0.0, 1.0])), 0.1 if partial else None, seconds - 0.05 if partial else None,
        similarity=draw(st.floats(0, 1)) if similar else 0.0, enroll_augment_prob=draw(st.sampled_from([0.0, 1.0])), turns=turns,
    )  # fmt: skip


@settings(max_examples=20)
@given(st.data(), st.booleans(), st.booleans(), SEEDS, st.integers(0, 10**6))
def test_any_mixture_is_the_sum_of_its_parts_as_loud_as_it_says_and_the_same_again(sources, data, similar, augment, seed, index):
    made, asked = mixer(json.dumps(sources), similar, augment), data.draw(conditions(similar))
    mixture = made.mixture(seed, index, asked, wrong_enroll=True)
    total = mixture.target + mixture.interferers.sum(0) + mixture.noise
    assert mixture.mix.shape == (round(asked.seconds * SAMPLE_RATE),) and np.abs(mixture.mix - total).max() <= 1e-6
    parts = [mixture.mix, mixture.target, *mixture.interferers, mixture.noise, *mixture.enroll]
    assert all(np.isfinite(part).all() and np.abs(part).max(initial=0) <= 1 for part in parts)
    meta = mixture.metadata
    assert bool(mixture.target.any()) == meta["present"] and len(mixture.interferers) == meta["n_interferers"]
    assert meta["sir_db"] == sorted(meta["sir_db"]) and (asked.absent_prob in (0.5, 1 - meta["present"]))
    if meta["present"]:
        assert audio.level_db(mixture.mix) == pytest.approx(meta["level_db"], abs=0.05)
    again = made.mixture(seed, index, asked, wrong_enroll=True)
    assert np.array_equal(again.mix, mixture.mix) and np.array_equal(again.enroll, mixture.enroll) and again.metadata == meta


@given(SEEDS, st.integers(2, 400), st.floats(1e-2, 1e2), st.floats(1e-2, 1e2))
def test_si_sdr_does_not_know_the_scale_or_the_sign_and_has_bounds(seed, samples, one, other):
    est, target, mix = (torch.from_numpy(noise(samples, seed + k, 0.3)).double() for k in range(3))
    value = si_sdr(est, target)
    assert -100 <= float(value) <= 100
    for scaled in (si_sdr(one * est, target), si_sdr(est, other * target), si_sdr(-est, target)):
        assert float(scaled) == pytest.approx(float(value), abs=1e-5)
    assert float(si_sdr(target, target)) == pytest.approx(100, abs=1e-6)
    assert float(si_sdri(mix, mix, target)) == 0
    assert float(si_sdri(est, mix, target)) == pytest.approx(float(value - si_sdr(mix, target)))


@settings(max_examples=30)
@given(st.lists(st.floats(-50, 50), min_size=2, max_size=30), st.floats(-20, 20), SEEDS)
def test_intervals_hold_their_mean_stay_within_the_values_and_move_with_them(values, shift, seed):
    found = bootstrap(values, seed)
    slack = 1e-9 + 1e-9 * max(map(abs, values))
    assert found.n == len(values) and found.mean == pytest.approx(np.mean(values), abs=slack)
    assert min(values) - slack <= found.low <= found.high <= max(values) + slack
    moved = bootstrap([value + shift for value in values], seed)
    assert (moved.mean, moved.low, moved.high) == pytest.approx((found.mean + shift, found.low + shift, found.high + shift), abs=1e-6)
    same = paired([value + shift for value in values], values, seed)
    assert (same.mean, same.low, same.high) == pytest.approx((shift,) * 3, abs=1e-6)
