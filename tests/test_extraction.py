"""Test extraction from recordings in memory: rates, channels, levels, lengths, several enrolments, chunks, and what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import conv1d

from hifitse import SAMPLE_RATE, audio
from hifitse.data.mixing import Mixer, Mixture
from hifitse.data.scene import Conditions
from hifitse.metrics import si_sdri
from hifitse.model import Extractor, extraction
from hifitse.model.extraction import Chunks, overlap_add
from hifitse.params import Params, resolve


def made(params: Params, count: int) -> list[Mixture]:
    """Return test mixtures of 4 s with a little noise."""
    mixer, conditions = Mixer(params, "test"), Conditions("test", 4.0, snr_min_db=15, snr_max_db=30)
    return [mixer.mixture(7, index, conditions, wrong_enroll=True) for index in range(count)]


@pytest.fixture(scope="module")
def mixtures(synthetic_sound):
    """Return mixtures made as in the demo preset, of voices with a seed that the default model was not trained on."""
    return made(resolve("demo", corpus_seed=1, synthetic_speakers=24, synthetic_noises=18), 10)


@pytest.fixture(scope="module")
def minute(mixtures) -> np.ndarray:
    """Return 60 s at 48 kHz of two people talking in a little noise, each up to 3 dB louder or quieter every 4 s."""
    rng, mixture = np.random.default_rng(0), mixtures[0]

    def louder(signal: np.ndarray) -> np.ndarray:
        return np.roll(signal, rng.integers(len(signal))) * np.float32(10 ** (rng.uniform(-3, 3) / 20))

    return np.concatenate([louder(mixture.target) + louder(mixture.interferers[0]) + mixture.noise for _ in range(15)])


def difference_db(est: np.ndarray, other: np.ndarray) -> float:
    return audio.level_db(est - other) - audio.level_db(other)


def gains(extractor: Extractor, mixtures: list) -> dict[str, float]:
    """Return the mean SI-SDRi in dB with the right and the wrong enrolment."""
    found = {"right": 0.0, "wrong": 0.0}
    for mixture in mixtures:
        for name, enroll in (("right", mixture.enroll[0]), ("wrong", mixture.wrong_enroll[0])):
            sounds = (extractor.extract(mixture.mix, enroll), mixture.mix, mixture.target)
            found[name] += si_sdri(*(torch.from_numpy(sound).double() for sound in sounds)).item() / len(mixtures)
    return found


def test_the_default_hears_whose_voice_it_is_asked_for(extractor, mixtures):
    """On synthetic voices of another seed, for which it was not made; the card says how well it works."""
    found = gains(extractor, mixtures)
    assert found["right"] - found["wrong"] > 3, found


def test_the_default_extracts_whom_it_is_asked_for_out_of_recordings(extractor, hifitse_data):
    found = gains(extractor, made(resolve("demo", "real", reverb_prob=0.0), 12))
    assert not extractor.training and found["right"] > 2 and found["wrong"] < -2, found


def test_it_is_the_models_forward_at_48_khz(extractor, mixtures):
    mix, enroll = mixtures[0].mix, mixtures[0].enroll
    with torch.no_grad():
        heard = (extraction.without_rumble(torch.from_numpy(signal)[None]) for signal in (mix, enroll))
        known = extractor(*heard)[0].numpy()
    assert np.abs(extractor.extract(mix, enroll[0]) - known).max() < 1e-5


@pytest.mark.parametrize("rate", [16_000, 44_100, 96_000])
def test_other_rates_give_the_same_voice_in_the_same_length(rate, extractor, mixtures, monkeypatch):
    mix, enroll = (audio.resample(x, SAMPLE_RATE, rate) for x in (mixtures[1].mix, mixtures[1].enroll[0]))
    est = extractor.extract(mix[:-7], enroll, rate)
    assert est.shape == mix[:-7].shape
    if rate >= 44_100:
        known = audio.resample(extractor.extract(mixtures[1].mix, mixtures[1].enroll[0]), SAMPLE_RATE, rate)
        assert difference_db(est, known[:-7]) < -20  # it was -8 before training mixtures were band-limited, too
    monkeypatch.setattr(extractor, "extract_speaker", lambda mix, speaker: mix)  # a model that changes nothing returns the mixture
    mix = audio.resample(extraction.without_rumble(torch.from_numpy(mixtures[1].mix)).numpy(), SAMPLE_RATE, rate)[:-7]
    assert difference_db(extractor.extract(mix, enroll, rate), mix) < -35


def test_the_type_of_the_mixture_is_kept_and_channels_are_averaged_whichever_axis_they_are(extractor, mixtures):
    mix, enroll = mixtures[0].mix[:48_000], mixtures[0].enroll[0]
    known = extractor.extract(mix, enroll)
    assert isinstance(known, np.ndarray) and known.dtype == np.float32
    assert extractor.extract(mix.astype(np.float64), enroll).dtype == np.float64
    tensor = extractor.extract(torch.from_numpy(mix).double(), torch.from_numpy(enroll))
    assert tensor.dtype == torch.float64 and not tensor.requires_grad
    assert extraction._like(np.float32([2, -2]), np.zeros(2, np.int32)).tolist() == [2**31 - 1, -(2**31)]
    assert extractor.extract(mix[:5], (enroll, SAMPLE_RATE), 1_000_000).shape == (5,)  # no sample at 48 kHz
    assert np.allclose(tensor.numpy(), known, atol=1e-6)
    stereo = np.stack([1.5 * mix, 0.5 * mix])
    for shape in (stereo, stereo.T, torch.from_numpy(stereo)):
        est = np.asarray(extractor.extract(shape, np.stack([enroll, enroll])))
        assert est.shape == mix.shape and np.allclose(est, known, atol=1e-5)


def test_several_enrolments_of_different_lengths_are_one_speaker(extractor, mixtures):
    enroll = mixtures[0].enroll[0]
    both = [torch.from_numpy(enroll), torch.from_numpy(enroll[::-1].copy())]
    with torch.no_grad():
        known, mine = extractor.encode(torch.stack(both)[None]), extractor.encode_each(both)
    assert torch.allclose(known.frames, mine.frames, atol=1e-4) and torch.allclose(known.embedding, mine.embedding, atol=1e-3)
    est = extractor.extract(mixtures[0].mix, [enroll, enroll[:50_000], enroll])
    assert difference_db(est, extractor.extract(mixtures[0].mix, enroll)) < -20


def test_a_long_enrolment_counts_with_its_first_half_minute(extractor, mixtures):
    mix, enroll = mixtures[0].mix[:20_000], np.tile(mixtures[0].enroll[0], 20)[: 31 * SAMPLE_RATE]
    assert np.array_equal(extractor.extract(mix, enroll), extractor.extract(mix, enroll[: 30 * SAMPLE_RATE]))


def test_pauses_in_mixture_and_enrolment_change_little(extractor, mixtures):
    mix, enroll, pause = mixtures[0].mix, mixtures[0].enroll[0], np.zeros(6 * SAMPLE_RATE, np.float32)
    known, place = extractor.extract(mix, enroll), slice(len(pause), -len(pause))
    for est in (extractor.extract(np.concatenate([pause, mix, pause]), enroll)[place], extractor.extract(mix, np.r_[pause, enroll, pause])):
        assert difference_db(est, known) < -20  # -2 and -7 when the network heard the pauses, too
    hiss = np.random.default_rng(0).standard_normal(2 * len(pause) + len(mix)).astype(np.float32) * 0.1 * np.sqrt(np.mean(mix**2))
    known = extractor.extract(mix + hiss[place], enroll)
    est = extractor.extract(np.r_[pause, mix, pause] + hiss, enroll)[place]
    assert difference_db(est, known) < -16  # -4 when the network heard noise 20 dB below the voices in the pauses, too


def test_chunks_differ_little_from_the_whole_and_have_no_seam(extractor, minute, mixtures):
    speaker = extraction.encode(extractor, mixtures[0].enroll[0])
    whole = extractor.extract_speaker(torch.from_numpy(minute)[None], speaker)[0].detach().numpy()
    est = extractor.extract(minute, mixtures[0].enroll[0])
    assert difference_db(est, whole) < -29
    chunks, rate = Chunks.of_seconds(extractor.config.hop_length), SAMPLE_RATE
    seams = range(chunks.step, len(est), chunks.step)
    assert len(seams) >= 3
    for place in seams:  # nor is it worse at the seams, where a jump would be wide-band
        around = slice(place - rate // 2, place + rate)
        assert difference_db(est[around], whole[around]) < -20
        assert np.abs(np.diff(est[around])).max() <= 1.05 * np.abs(np.diff(whole[around])).max()


GOOD = np.random.default_rng(0).standard_normal(24_000).astype(np.float32) * 0.1
WITH_NAN = np.where(np.arange(24_000) == 5, np.nan, GOOD).astype(np.float32)
REFUSED = {
    "empty mixture": ((np.zeros(0, np.float32), GOOD), "mix has the shape (0,)"),
    "a batch": ((np.zeros((3, 100), np.float32), GOOD), "one recording per call"),
    "NaN": ((WITH_NAN, GOOD), "mix holds NaN or infinite values"),
    "NaN in the enrolment": ((GOOD, WITH_NAN), "enroll holds NaN or infinite values"),
    "integers of no known scale": (((GOOD * 32767).astype(np.int64), GOOD), "mix holds int64, expected"),
    "a list of numbers": (([0.0, 0.1], GOOD), "mix is a list"),
    "a name": ((GOOD, "voice.wav"), "enroll is a str"),
    "nobody": ((GOOD, []), "enroll is an empty list"),
    "silent enrolment": ((GOOD, np.zeros(24_000, np.float32)), "enroll is silent (-120 dBFS)"),
    "nearly silent": ((GOOD, [GOOD, GOOD * 1e-4]), "enroll[1] is silent (-100 dBFS)"),
    "silent half minute": ((GOOD, np.pad(GOOD, (31 * SAMPLE_RATE, 0))), "silent in its first 30 s"),
    "short enrolment": ((GOOD, GOOD[:4_800]), "lasts 0.10 s, expected at least 0.25 s"),
    "no rate": ((GOOD, GOOD, 0), "sample_rate is 0, expected 1000 to 1000000 Hz"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_one_sentence(case, extractor):
    arguments, words = REFUSED[case]
    with pytest.raises(audio.AudioError) as caught:
        extractor.extract(*arguments)
    said = str(caught.value)
    assert words in said and "expected" in said and "\n" not in said


SMALL = Chunks(step=60, fade=10, context=20, hop=10)


def run(signal: Tensor, process, chunks: Chunks = SMALL, size: int = 37) -> Tensor:
    return torch.cat([torch.zeros(0), *overlap_add(signal.split(size) if len(signal) else [], process, chunks)])


@given(st.integers(0, 700), st.integers(1, 300), st.integers(1, 6), st.integers(0, 4), st.integers(1, 3), st.integers(1, 11))
@settings(max_examples=60)
def test_any_length_in_any_pieces_comes_back_whole(length, size, step, context, fade, hop):
    chunks = Chunks(hop * (step + fade), hop * fade, hop * context, hop)
    signal = torch.randn(length, generator=torch.Generator().manual_seed(length))
    heard = []
    same = run(signal, lambda chunk: (heard.append(len(chunk)), chunk)[1], chunks, size)
    assert len(same) == length and torch.allclose(same, signal, atol=1e-6)
    assert max(heard, default=0) <= chunks.length


def test_a_local_filter_gives_the_same_as_on_the_whole():
    """A filter of 41 taps reaches 20 samples to each side, which is the context; one of 51 taps reaches further and shows at the seams."""

    def smooth(signal: Tensor, taps: int) -> Tensor:
        return conv1d(signal[None, None], torch.ones(1, 1, taps) / taps, padding=taps // 2)[0, 0]

    signal = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(run(signal, lambda chunk: smooth(chunk, 41)), smooth(signal, 41), atol=1e-6)
    assert not torch.allclose(run(signal, lambda chunk: smooth(chunk, 51)), smooth(signal, 51), atol=1e-3)


def test_chunks_begin_on_the_grid_the_last_is_not_short_and_little_is_read_ahead():
    """Each sample holds its own index, so that a chunk's first value is its position."""
    starts, read = [], 0

    def source():
        nonlocal read
        for piece in torch.arange(10_003, dtype=torch.float32).split(25):
            read += len(piece)
            yield piece

    out, ahead = 0, []
    for piece in overlap_add(source(), lambda chunk: (starts.append((int(chunk[0]), len(chunk))), chunk)[1], SMALL):
        out += len(piece)
        ahead.append(read - out)
    assert out == 10_003 and max(ahead) <= 2 * SMALL.length
    assert len(starts) > 100 and all(start % SMALL.hop == 0 for start, _ in starts)
    assert all(length > SMALL.length - SMALL.hop for _, length in starts)


def test_seconds_become_whole_frames():
    chunks = Chunks.of_seconds(960, step_s=1.0, fade_s=0.1, context_s=0.001)
    assert (chunks.step, chunks.fade, chunks.context) == (48_000, 4_800, 960)
