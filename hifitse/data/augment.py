"""What disturbs a recording: changes of an enrolment, talkers as if recorded elsewhere, and what training hides from the network.

A change is another device, channel or file format, and the same voice. It takes and gives (T,) float32 at 48 kHz, keeps the length, the
time and, within a few dB, the level, and does not clip. ``CHANGES`` has them by name.

Recordings of one source share colour, band edge and noise floor. Where sources are mixed, a network could tell the talkers apart by them
and never listen to the voice: so a talker is recorded elsewhere, with a colour, an edge and a floor drawn for them alone. Nor is
somebody who speaks higher and faster somebody else: an enrolment may have another pitch, with the formants where they were.
"""

import contextlib
import io
import math
import random
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
import torch
from scipy.fft import next_fast_len
from scipy.signal import fftconvolve
from torch import Tensor

from hifitse import SAMPLE_RATE, HifitseError, audio
from hifitse.data.scene import Change, Elsewhere
from hifitse.params import Params

if TYPE_CHECKING:
    from hifitse.data.dataset import Shared

EQ_GAIN_DB = 12.0  # largest boost or cut of one of the equaliser's seven bands
CUTOFFS_HZ = (3400.0, 4000.0, 5500.0, 8000.0, 11000.0)  # edges of a telephone, and of recordings at 8, 11.025, 16 and 22.05 kHz
HIGH_PASS_HZ = (50.0, 300.0)
CODED_RATES = (16_000, 24_000, 32_000, 48_000)  # Hz
COMPRESSION = (0.5, 0.99)  # libsndfile's 0 (best) to 1 (smallest): about 26 to 80 kbit/s over the rates
BODY = round(0.004 * SAMPLE_RATE)  # samples that the body of a device rings

RATES = (44_100, 32_000, 24_000, 22_050, 16_000)  # Hz: of recordings before they came to 48 kHz
ROLL_OFF = (0.9, 1.0)  # share of half of that rate at which such a recording ends, as resamplers have it
LIMITED_PROB = 0.5
COLOUR_HZ = (80, 250, 800, 2_500, 8_000, 20_000)
COLOUR_DB = 6.0  # largest boost or cut at each of COLOUR_HZ, straight lines over log frequency between them
FLOOR_PROB = 0.7
FLOOR_DB = (-60.0, -30.0)  # of the noise floor, relative to the speech
FLOOR_SLOPE = (0.0, 0.8)  # exponent by which the floor's amplitude falls above 100 Hz: from white to nearly brown
SLOPE = 0.02  # share of the edge's frequency, below it, over which the gain falls from 1 to 0
TABLE = 2**19  # complex normal numbers of which floors are cut: drawing new ones for each took longer than all else here
FRAME = 2048  # samples in which formants stand still: 43 ms
LIFTER = 128  # samples of the cepstrum that make the envelope, 2.7 ms: shorter than a period of 370 Hz
FORMANT_GAIN = 4.0  # largest change, log of 35 dB
PITCHES = (80, 125)  # percent: four semitones down and up


# ---- changes of an enrolment


def draw_change(rng: np.random.Generator, name: str = "") -> Change:
    """A change, by default one of the ``CHANGES`` with equal chances, with plain values drawn for it."""
    name = name or list(CHANGES)[rng.integers(len(CHANGES))]
    return Change(name, CHANGES[name][0](rng))


def changed(enroll: np.ndarray, change: Change) -> np.ndarray:
    """A changed recording, (T,) -> (T,) float32; HifitseError where it is not finite, on which the encoder would end the process."""
    if not np.isfinite(enroll).all():
        raise HifitseError(f"enrolment of shape {enroll.shape} cannot be changed, expected finite values")
    return CHANGES[change.name][1](enroll, **change.drawn)


def _seeds(rng: np.random.Generator) -> dict[str, Any]:
    return {"seeds": [int(rng.integers(2**63)), int(rng.integers(2**32))]}


def _draw_device(rng: np.random.Generator) -> dict[str, Any]:
    # The direct sound, and behind it noise that decays by 60 dB and has up to half of its energy.
    body = rng.standard_normal(BODY) * 10 ** np.linspace(0, -3, BODY)
    body *= rng.uniform(0.2, 0.7) / np.sqrt(np.sum(body**2))
    body[0] = 1
    return {"body": body.tolist()} | _seeds(rng)


def _coded(enroll: np.ndarray, rate: int, compression: float) -> np.ndarray:
    """MP3 of about 26 to 80 kbit/s and back, at one of ``CODED_RATES``; the codec's delay is taken out."""
    peak = float(np.abs(enroll).max())
    if peak == 0:
        return enroll.copy()
    file = io.BytesIO()
    # Variable rate: only there libsndfile writes the header from which its decoder knows the encoder's delay.
    options = {"bitrate_mode": "VARIABLE", "compression_level": compression}
    with soundfile.SoundFile(file, "w", rate, 1, format="MP3", subtype="MPEG_LAYER_III", **options) as encoder:
        encoder.write(audio.resample(enroll * np.float32(0.5 / peak), SAMPLE_RATE, rate))
    file.seek(0)
    decoded = audio.resample(soundfile.read(file, dtype="float32")[0], rate, SAMPLE_RATE)
    return audio.crop_or_pad(decoded, len(enroll)) * np.float32(2 * peak)


@cache
def _filters(name: str, cutoff_hz: float) -> Any:
    """Transforms of audiomentations, which draw their parameters at each call; imported here, for that takes seconds."""
    from audiomentations import Compose, HighPassFilter, LowPassFilter, PeakingFilter, SevenBandParametricEQ

    if name == "eq":
        return SevenBandParametricEQ(-EQ_GAIN_DB, EQ_GAIN_DB, p=1.0)
    if name == "band":
        low_pass = LowPassFilter(cutoff_hz, cutoff_hz, min_rolloff=72, max_rolloff=96, p=1.0)
        return Compose([low_pass, HighPassFilter(*HIGH_PASS_HZ, min_rolloff=12, max_rolloff=24, p=1.0)])
    edges = (400, 1200, 3000, 8000)
    shape = {"min_gain_db": -6, "max_gain_db": 12, "min_q": 1, "max_q": 6, "p": 1.0}
    peaks = [PeakingFilter(low, high, **shape) for low, high in zip(edges, edges[1:], strict=False)]
    low_pass = LowPassFilter(6000, 16000, min_rolloff=12, max_rolloff=24, p=1.0)
    return Compose([HighPassFilter(150, 500, min_rolloff=12, max_rolloff=12, p=1.0), *peaks, low_pass])


def _filtered(enroll: np.ndarray, name: str, seeds: list[int], cutoff_hz: float = 0.0, body: Sequence[float] = ()) -> np.ndarray:
    """An equaliser, a band limit, or a small device: no bass, three resonances, less treble, and a body that rings for 4 ms."""
    if len(body):
        enroll = fftconvolve(enroll, np.array(body))[: len(enroll)].astype(np.float32)
    with _seeded(seeds):
        return _filters(name, cutoff_hz)(enroll, SAMPLE_RATE)


CHANGES: dict[str, tuple[Callable[[np.random.Generator], dict[str, Any]], Callable[..., np.ndarray]]] = {
    "eq": (_seeds, partial(_filtered, name="eq")),
    "band": (lambda rng: _seeds(rng) | {"cutoff_hz": CUTOFFS_HZ[rng.integers(len(CUTOFFS_HZ))]}, partial(_filtered, name="band")),
    "codec": (lambda rng: {"rate": CODED_RATES[rng.integers(len(CODED_RATES))], "compression": rng.uniform(*COMPRESSION)}, _coded),
    "device": (_draw_device, partial(_filtered, name="device")),
}
"""By the name that stands in the metadata what a change draws, and what it does with that."""


@contextlib.contextmanager
def _seeded(seeds: list[int]) -> Iterator[None]:
    """Python's and numpy's global generators, which audiomentations draws from, at these seeds; then as they were before."""
    before, numpy_before = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seeds[0])
    np.random.seed(seeds[1])  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)  # noqa: NPY002


# ---- talkers as if recorded elsewhere


def draw_elsewhere(key: Sequence[int], prob: float) -> Elsewhere | None:
    """What is drawn from a key, a seed of ``default_rng``, as often as ``prob`` says; else ``None``."""
    if not prob:
        return None
    rng = np.random.default_rng(key)
    if rng.random() >= prob:
        return None
    level = 10 ** (rng.uniform(*FLOOR_DB) / 20) if rng.random() < FLOOR_PROB else 0.0
    slope, start = rng.uniform(*FLOOR_SLOPE), int(rng.integers(TABLE))
    colour = tuple(rng.uniform(-COLOUR_DB, COLOUR_DB, len(COLOUR_HZ)).tolist())
    limited = rng.random() < LIMITED_PROB
    edge = RATES[rng.integers(len(RATES))] / 2 * rng.uniform(*ROLL_OFF)
    return Elsewhere(level, slope, start, colour, edge if limited else float(SAMPLE_RATE))


def recorded_elsewhere(speech: Tensor, told: Sequence[Elsewhere]) -> Tensor:
    """Rows of speech, (R, T) -> (R, T) float32 in time with it, each with a floor, a colour and perhaps a band edge, as it is told."""
    samples, size = speech.shape[1], next_fast_len(speech.shape[1], real=True)
    level, slope, edge = (speech.new_tensor([getattr(each, name) for each in told])[:, None] for name in ("level", "slope", "edge"))
    spec = torch.fft.rfft(speech, size)
    hertz, hats = _frequencies(size, speech.device)
    start = torch.tensor([each.start for each in told], device=speech.device)[:, None]
    floor = _table(speech.device)[(start + torch.arange(len(hertz), device=speech.device)) % TABLE]
    floor *= (-slope * hertz.clamp_min(100).log()).exp_()
    speech_norm, floor_norm = (torch.view_as_real(each).flatten(1).square().sum(1, keepdim=True).sqrt_() for each in (spec, floor))
    floor *= level * (speech_norm / floor_norm.clamp_min(1e-9))
    gain = torch.exp(speech.new_tensor([each.colour for each in told]) @ hats * (math.log(10) / 20))
    gain *= band_edge(hertz, edge)
    return torch.fft.irfft(spec.add_(floor).mul_(gain), size)[:, :samples]


def band_edge(hertz: Tensor, edge: Tensor | float) -> Tensor:
    """Gain at frequencies of a recording whose band ends at ``edge`` Hz: 1, and from a little below it 0."""
    return ((edge - hertz) / (SLOPE * edge)).clamp_(0, 1)


@cache
def _table(device: torch.device) -> Tensor:
    pairs = np.random.default_rng(0).standard_normal((TABLE, 2), np.float32)
    return torch.view_as_complex(torch.from_numpy(pairs)).to(device)


@lru_cache(8)
def _frequencies(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Hz of the bins (F,), and what each of ``COLOUR_HZ`` adds to each bin (6, F): straight lines over log frequency."""
    hertz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    at = np.log(np.maximum(hertz, 20))
    hats = np.stack([np.interp(at, np.log(COLOUR_HZ), row) for row in np.eye(len(COLOUR_HZ))])
    return tuple(torch.from_numpy(each.astype(np.float32)).to(device) for each in (hertz, hats))


# ---- another manner of speaking


def restore_formants(speech: Tensor, factors: Sequence[float]) -> Tensor:
    """Rows of speech, (R, T) -> (R, T) float32, that were played ``factors`` times as fast, with the formants where they had been.

    The pitch stays changed. Each frame's envelope is the start of its cepstrum, too short to follow the harmonics.
    """
    window = torch.hann_window(FRAME, device=speech.device)
    spec = torch.stft(speech, FRAME, FRAME // 4, window=window, return_complex=True)  # (R, F, L)
    level = spec.abs().clamp_min(1e-6).log()
    cepstrum = torch.fft.irfft(level, dim=1)
    cepstrum[:, LIFTER : FRAME - LIFTER + 1] = 0
    envelope = torch.fft.rfft(cepstrum, dim=1).real
    bins = torch.arange(FRAME // 2 + 1, device=speech.device)
    moved = (speech.new_tensor(factors)[:, None] * bins).clamp_max(FRAME // 2)
    low = moved.long().clamp_max(FRAME // 2 - 1)
    index = low[..., None].expand(-1, -1, spec.shape[-1])
    before = torch.lerp(envelope.gather(1, index), envelope.gather(1, index + 1), (moved - low)[..., None])
    spec *= (before - envelope).clamp_(-FORMANT_GAIN, FORMANT_GAIN).exp_()
    return torch.istft(spec, FRAME, FRAME // 4, window=window, length=speech.shape[-1])


# ---- what training hides: functions of (seed, step, part), so that a resumed run hides the same; part counts an update's batches


def specaug_mask(shape: tuple[int, int, int], largest: float, count: int, seed: int) -> Tensor:
    """Masks to multiply spectra with: 0 in ``count`` bands and in ``count`` stretches of each item, 1 elsewhere; (B, F, L) float32.
    Each band or stretch has a width drawn evenly from 0 up to ``largest`` of its axis, and lies anywhere (SpecAugment, Park et al.,
    Interspeech 2019). A pure function of its arguments, on the CPU, which leaves the global random state as it was."""
    from torchaudio.functional import mask_along_axis_iid

    items, bins, frames = shape
    bands, stretches = torch.ones(items, bins, 1), torch.ones(items, 1, frames)
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs too
        for _ in range(count):
            bands = mask_along_axis_iid(bands, round(largest * bins), 0.0, axis=1)
            stretches = mask_along_axis_iid(stretches, round(largest * frames), 0.0, axis=2)
    return bands * stretches


def _step_seed(params: Params, step: int, part: int) -> int:
    return hash((params.seed, step, part)) & (2**63 - 1)


def hide_enrollments(enroll: Tensor, params: Params, step: int, part: int) -> Tensor:
    """Silence for a share ``enroll_dropout`` of the enrolments; with ``enrollments_min`` fewer of them, with ``enroll_seconds_min`` shorter
    ones, alike for all items: (B, N, T') -> (B, N', T'')."""
    generator = torch.Generator().manual_seed(_step_seed(params, step, part))
    keep = torch.rand(len(enroll), generator=generator) >= params.enroll_dropout
    if params.enrollments_min:
        enroll = enroll[:, : int(torch.randint(params.enrollments_min, enroll.shape[1] + 1, (), generator=generator))]
    if params.enroll_seconds_min:
        shortest = min(round(params.enroll_seconds_min * SAMPLE_RATE), enroll.shape[-1])
        share = torch.randint(0, 9, (), generator=generator).item() / 8  # few different lengths, for which kernels are prepared once
        enroll = enroll[..., : shortest + round(share * (enroll.shape[-1] - shortest))]
    return enroll * keep.to(enroll)[:, None, None] if params.enroll_dropout else enroll


def spectrum_mask(mix: Tensor, params: Params, step: int, part: int) -> Tensor | None:
    """SpecAugment on what the network sees of the mixture: (B, T) -> (B, F, L) of ones and zeros, ``None`` without ``specaug``."""
    if not params.specaug:
        return None
    shape = (len(mix), params.n_fft // 2 + 1, mix.shape[-1] // params.hop_length + 2)  # as model.bands.Spectrum pads and frames
    return specaug_mask(shape, params.specaug, params.specaug_masks, _step_seed(params, step, part)).to(mix)


def hide_bands(
    sounds: tuple[Tensor, Tensor, Tensor], shared: "Shared | None", params: Params, step: int, part: int
) -> tuple[Tensor, Tensor, Tensor]:
    """A share ``band_limit_prob`` of the mixtures with their targets, and of the enrolments, as if recorded at one of ``RATES``.
    Both are drawn by themselves, items that share either alike. Shape: mix (B, T), target (B, T), enroll (B, N, T') -> the same"""
    mix, target, enroll = sounds
    if not params.band_limit_prob:
        return sounds
    generator = torch.Generator().manual_seed(_step_seed(params, step, part) ^ 1)  # not the one that hides enrolments
    of_mix, of_enroll = (_edges(len(mix), params.band_limit_prob, generator) for _ in range(2))
    if shared is not None:
        of_mix, of_enroll = of_mix[shared.unique_mix][shared.mix_index], of_enroll[shared.unique_enroll][shared.enroll_index]
    return low_pass(mix, of_mix), low_pass(target, of_mix), low_pass(enroll, of_enroll)


def _edges(items: int, prob: float, generator: torch.Generator) -> Tensor:
    """Hz at which each item's band ends, (items,); infinite where it does not."""
    limited, rate, roll_off = torch.rand(3, items, generator=generator)
    low, high = ROLL_OFF
    edges = torch.tensor(RATES)[(rate * len(RATES)).long()] / 2 * (low + (high - low) * roll_off)
    return torch.where(limited < prob, edges, torch.inf)


def low_pass(audio: Tensor, edges_hz: Tensor) -> Tensor:
    """Each item without what lies above its edge, (B, ..., T), (B,) -> (B, ..., T); in phase, items with an infinite edge untouched."""
    audio = audio.clone()
    for item, edge in zip(audio, edges_hz.tolist(), strict=True):
        if edge < SAMPLE_RATE / 2:
            spec = torch.fft.rfft(item)
            hertz = torch.linspace(0, SAMPLE_RATE / 2, spec.shape[-1], device=audio.device)
            spec *= band_edge(hertz, edge)
            item.copy_(torch.fft.irfft(spec, audio.shape[-1]))
    return audio
