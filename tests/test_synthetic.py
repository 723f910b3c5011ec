"""Test the synthetic sources: the same sound for the same arguments, distinct voices, energy up to 20 kHz, and a working cache."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from hifitse import SAMPLE_RATE, HifitseError, audio
from hifitse.data import speakers, synthetic
from hifitse.data.similarity import describe
from hifitse.data.speakers import BABBLE_VARIANTS, ENGLISH, HIGH_VARIANTS, LOW_VARIANTS, OTHER, Speaker

SPEAKERS, UTTERANCES = 10, 2


@pytest.fixture(scope="module")
def corpus(synthetic_sound):
    return synthetic.make_speech(SPEAKERS, UTTERANCES, seed=1)


def manifest(folder):
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]


def band_db(signal: np.ndarray, low: float, high: float) -> float:
    """Return the energy between two frequencies in dB relative to the whole, over the first 2.7 s (a prime length would be slow)."""
    signal = signal[: 2**17]
    power = np.abs(np.fft.rfft(signal)) ** 2
    hertz = np.fft.rfftfreq(len(signal), 1 / SAMPLE_RATE)
    return 10 * np.log10(power[(hertz >= low) & (hertz < high)].sum() / power.sum() + 1e-20)


def pitch(speech: np.ndarray) -> float:
    """Return the pitch in Hz."""
    return float(2 ** describe(speech)[-1])


def say(who: Speaker) -> np.ndarray:
    return speakers.speak(who, [speakers.words(np.random.default_rng(0), who.accent in ENGLISH)], seed=1)[0]


PLAIN = Speaker("plain", "m3", "en-us", 170, 50, 50, tract=1.0, tilt_db=0.0, colour=(), breath_db=0.0)


def test_utterances_are_listed_and_have_the_promised_length_level_and_ends(corpus):
    lines = manifest(corpus)
    assert len(lines) == SPEAKERS * UTTERANCES == len(list(corpus.rglob("*.wav"))) and len({line["speaker"] for line in lines}) == SPEAKERS
    for line in lines:
        assert audio.info(corpus / line["path"]) == audio.AudioInfo(line["samples"], SAMPLE_RATE, 1) and line["group"]
        speech = audio.read(corpus / line["path"])
        assert 3.5 < len(speech) / SAMPLE_RATE < 6
        assert np.abs(speech).max() < 0.9 and audio.level_db(speech) == pytest.approx(-26, abs=0.1)
        frames = np.square(speech[: len(speech) // 480 * 480].reshape(-1, 480)).mean(axis=1)
        loud = np.flatnonzero(frames > 1e-4 * frames.max())
        assert loud[0] * 480 <= 0.06 * SAMPLE_RATE and len(speech) - loud[-1] * 480 <= 0.07 * SAMPLE_RATE


def test_speech_reaches_20_khz_and_falls_gently(corpus):
    signals = [audio.read(corpus / line["path"]) for line in manifest(corpus)]
    twelve, sixteen = (np.median([band_db(signal, low, low + 4_000) for signal in signals]) for low in (12_000, 16_000))
    assert -40 < twelve < -22  # in recordings: -26, and -36 from 16 kHz
    assert -50 < sixteen < twelve - 4
    assert all(band_db(signal, 18_000, 20_000) > -75 for signal in signals)


def test_first_speakers_and_utterances_do_not_depend_on_the_rest(corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("HIFITSE_CACHE", str(tmp_path))
    monkeypatch.setattr(synthetic.os, "cpu_count", lambda: 1)
    fewer = synthetic.make_speech(3, 1, seed=1)
    for line in manifest(fewer):
        assert (fewer / line["path"]).read_bytes() == (corpus / line["path"]).read_bytes()
    other = synthetic.make_speech(3, 1, seed=2)
    assert all((other / line["path"]).read_bytes() != (fewer / line["path"]).read_bytes() for line in manifest(fewer))


def test_what_fails_leaves_nothing_and_can_be_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("HIFITSE_CACHE", str(tmp_path))
    with monkeypatch.context() as broken:
        broken.setitem(sys.modules, "espeakng_loader", None)
        with pytest.raises(HifitseError, match="espeakng-loader"):
            synthetic.make_speech(1, 1, seed=0)
    assert list(tmp_path.iterdir()) == []
    assert len(manifest(synthetic.make_speech(1, 1, seed=0))) == 1


@pytest.mark.parametrize("seed", [0, 7])
def test_speakers_are_many_and_well_spread(seed):
    people = [speakers.speaker(seed, index) for index in range(200)]
    groups = {speakers.variant_group(who.variant) for who in people}
    assert min(len(groups), len({speakers.variant_group(who.variant) for who in people[:100]})) >= 25
    assert len({(who.variant, who.accent, who.pitch, who.tract) for who in people}) == 200 and len({who.accent for who in people}) >= 20
    assert not {speakers.variant_group(variant) for variant in BABBLE_VARIANTS} & groups
    assert {who.tract for who in people} >= {0.9, 1.0, 1.1} and all(0.85 <= who.tract <= 1.18 for who in people)
    assert [speakers.variant_group(variant) for variant in ("steph2", "mike2", "m1", "m2", "max")] == ["steph", "mike", "m1", "m2", "max"]


def test_espeak_has_every_accent_and_variant():
    variants = LOW_VARIANTS + HIGH_VARIANTS + BABBLE_VARIANTS
    accents = ENGLISH + OTHER
    for index, variant in enumerate(variants):
        accent = accents[index % len(accents)]
        speech = speakers.speak(replace(PLAIN, variant=variant, accent=accent), [["banana", "12", "tomato"]], 0, seconds=(0.1, 9.0))[0]
        assert len(speech) > 0.5 * SAMPLE_RATE, (variant, accent)


def test_the_vocal_tract_scales_the_pitch_by_its_factor():
    low, high = say(replace(PLAIN, tract=0.9)), say(replace(PLAIN, tract=1.1))
    assert pitch(high) / pitch(low) == pytest.approx(1.1 / 0.9, rel=0.08)
    lowest, highest = say(replace(PLAIN, pitch=10)), say(replace(PLAIN, variant="f3", pitch=55, tract=1.1))
    assert 55 < pitch(lowest) < 90 and 200 < pitch(highest) < 320


def test_noise_files_are_named_by_kind_and_hold_sound():
    folder = synthetic.make_noise(seed=1, clips=10, seconds=3)
    names = sorted(path.name for path in folder.glob("*.wav"))
    assert names == sorted([f"{kind}_00.wav" for kind in synthetic.KINDS] + ["white_01.wav"])
    for name in names:
        noise = audio.read(folder / name)
        assert len(noise) == 3 * SAMPLE_RATE
        assert -45 < audio.level_db(noise) <= -25.99 and np.abs(noise).max() < 0.9
        assert all(audio.level_db(part) > -75 for part in np.split(noise, 6))


@pytest.mark.parametrize("slope_db", [0.0, -3.0, -6.0])
def test_coloured_noise_falls_by_its_slope(slope_db):
    noise = synthetic.coloured(np.random.default_rng(0), 10 * SAMPLE_RATE, slope_db)
    octave_wide = [band_db(noise, low, 2 * low) for low in (250, 1_000, 4_000)]
    # A band one octave higher is twice as wide: 3 dB more at the same density.
    np.testing.assert_allclose(np.diff(octave_wide), 2 * (slope_db + 10 * np.log10(2)), atol=0.3)
