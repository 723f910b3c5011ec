"""Augmentation: changed enrolments, talkers as if recorded elsewhere, and what training hides from the network.

A change simulates another device, channel or file format for the same voice. It maps (T,) float32 at 48 kHz to the same shape, stays in
time, keeps the level within a few dB and does not clip. ``CHANGES`` has all changes by name.

Recordings of one source share colour, band edge and noise floor. In a mixture of several sources, a network could tell the talkers apart
by these and ignore the voices. Talkers can therefore be rendered as if recorded elsewhere, each with an individual colour, band edge and
floor. A speaker who talks higher and faster is still the same: enrolments may have another pitch, with the formants left in place.
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

from hifitse import SAMPLE_RATE, audio
from hifitse.data.scene import Change, Elsewhere
from hifitse.params import Params

if TYPE_CHECKING:
    from hifitse.data.dataset import Shared

EQ_GAIN_DB = 12.0  # largest boost or cut of each of the equaliser's seven bands
CUTOFFS_HZ = (3400.0, 4000.0, 5500.0, 8000.0, 11000.0)  # band edges of the telephone and of recordings at 8, 11.025, 16 and 22.05 kHz
HIGH_PASS_HZ = (50.0, 300.0)
CODED_RATES = (16_000, 24_000, 32_000, 48_000)  # Hz
COMPRESSION = (0.5, 0.99)  # from libsndfile's 0 (best) to 1 (smallest): about 26 to 80 kbit/s over the rates
BODY = round(0.004 * SAMPLE_RATE)  # samples: a device's body rings for 4 ms

RATES = (44_100, 32_000, 24_000, 22_050, 16_000)  # Hz: sample rates of recordings before they were converted to 48 kHz
ROLL_OFF = (0.9, 1.0)  # band edge of such a recording relative to half its rate, as resamplers leave it
LIMITED_PROB = 0.5
COLOUR_HZ = (80, 250, 800, 2_500, 8_000, 20_000)
COLOUR_DB = 6.0  # largest boost or cut at each of COLOUR_HZ, interpolated linearly over log frequency
FLOOR_PROB = 0.7
FLOOR_DB = (-60.0, -30.0)  # level of the noise floor relative to the speech
FLOOR_SLOPE = (0.0, 0.8)  # exponent of the fall of the floor's amplitude above 100 Hz: from white to nearly brown
SLOPE = 0.02  # width of the fall from 1 to 0 below a band edge, relative to the edge
TABLE = 2**19  # complex normal numbers from which floors are cut: drawing new ones each time took longer than all the rest
FRAME = 2048  # samples over which formants are taken as constant: 43 ms
LIFTER = 128  # samples of the cepstrum that make up the envelope, 2.7 ms: shorter than a period of 370 Hz
FORMANT_GAIN = 4.0  # largest change of the log amplitude: 35 dB
PITCHES = (80, 125)  # percent: about four semitones down and up


# ---- changes of an enrolment


def draw_change(rng: np.random.Generator, name: str = "") -> Change:
    """Draw a change, by default one of ``CHANGES`` with equal probability, and its parameters as plain values."""
    name = name or list(CHANGES)[rng.integers(len(CHANGES))]
    return Change(name, CHANGES[name][0](rng))


def changed(enroll: np.ndarray, change: Change) -> np.ndarray:
    """Apply a change: (T,) -> (T,) float32. The values must be finite: others would make the encoder kill the process."""
    return CHANGES[change.name][1](enroll, **change.drawn)


def _seeds(rng: np.random.Generator) -> dict[str, Any]:
    return {"seeds": [int(rng.integers(2**63)), int(rng.integers(2**32))]}


def _draw_device(rng: np.random.Generator) -> dict[str, Any]:
    # The direct sound, followed by noise that decays by 60 dB and has up to half of its energy.
    body = rng.standard_normal(BODY) * 10 ** np.linspace(0, -3, BODY)
    body *= rng.uniform(0.2, 0.7) / np.sqrt(np.sum(body**2))
    body[0] = 1
    return {"body": body.tolist()} | _seeds(rng)


def _coded(enroll: np.ndarray, rate: int, compression: float) -> np.ndarray:
    """Encode to MP3 (about 26 to 80 kbit/s) at one of ``CODED_RATES`` and decode again, without the codec's delay."""
    peak = float(np.abs(enroll).max())
    if peak == 0:
        return enroll.copy()
    file = io.BytesIO()
    # Variable rate: only then does libsndfile write the header that tells its decoder the encoder's delay.
    options = {"bitrate_mode": "VARIABLE", "compression_level": compression}
    with soundfile.SoundFile(file, "w", rate, 1, format="MP3", subtype="MPEG_LAYER_III", **options) as encoder:
        encoder.write(audio.resample(enroll * np.float32(0.5 / peak), SAMPLE_RATE, rate))
    file.seek(0)
    decoded = audio.resample(soundfile.read(file, dtype="float32")[0], rate, SAMPLE_RATE)
    return audio.crop_or_pad(decoded, len(enroll)) * np.float32(2 * peak)


@cache
def _filters(name: str, cutoff_hz: float) -> Any:
    """Return transforms of audiomentations, which draw their parameters at each call. Imported here because that takes seconds."""
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
    """Apply an equaliser, a band limit, or a small device: no bass, three resonances, less treble, and a body that rings for 4 ms."""
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
"""For each change, by its name in the metadata: the function that draws its parameters and the one that applies it."""


@contextlib.contextmanager
def _seeded(seeds: list[int]) -> Iterator[None]:
    """Seed the global generators of Python and numpy, which audiomentations uses, and restore their states afterwards."""
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
    """Draw recording conditions from a key, a seed of ``default_rng``, with probability ``prob``; else return ``None``."""
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
    """Give each row of speech the floor, colour and band edge in ``told``: (R, T) -> (R, T) float32, in time with the input."""
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
    """Return the gain at the given frequencies of a recording that ends at ``edge`` Hz: 1, falling to 0 over the last 2 % below it."""
    return ((edge - hertz) / (SLOPE * edge)).clamp_(0, 1)


@cache
def _table(device: torch.device) -> Tensor:
    pairs = np.random.default_rng(0).standard_normal((TABLE, 2), np.float32)
    return torch.view_as_complex(torch.from_numpy(pairs)).to(device)


@lru_cache(8)
def _frequencies(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the bin frequencies in Hz, (F,), and the weight of each of ``COLOUR_HZ`` at each bin, (6, F), linear over log frequency."""
    hertz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    at = np.log(np.maximum(hertz, 20))
    hats = np.stack([np.interp(at, np.log(COLOUR_HZ), row) for row in np.eye(len(COLOUR_HZ))])
    return tuple(torch.from_numpy(each.astype(np.float32)).to(device) for each in (hertz, hats))


# ---- enrolments at another pitch


def restore_formants(speech: Tensor, factors: Sequence[float]) -> Tensor:
    """Move the formants of speech that was played ``factors`` times as fast back in place: rows (R, T) -> (R, T) float32.

    The pitch stays changed. The envelope of each frame is the start of its cepstrum, too short to follow the harmonics.
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


# ---- what training hides: functions of (seed, step, part), so that a resumed run hides the same; part numbers an update's batches


def specaug_mask(shape: tuple[int, int, int], largest: float, count: int, seed: int) -> Tensor:
    """Return masks (B, F, L) float32 to multiply spectra with: each item has ``count`` frequency bands and ``count`` time stretches of 0.
    Their positions are random; their widths are uniform from 0 to ``largest`` of the axis (SpecAugment, Park et al., Interspeech 2019).
    A pure function of its arguments, computed on the CPU; it leaves the global random state unchanged."""
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
    """Silence the enrolments of a share ``enroll_dropout`` of the items. ``enrollments_min`` also keeps fewer enrolments, and
    ``enroll_seconds_min`` shorter ones, alike for all items: (B, N, T') -> (B, N', T'')."""
    generator = torch.Generator().manual_seed(_step_seed(params, step, part))
    keep = torch.rand(len(enroll), generator=generator) >= params.enroll_dropout
    if params.enrollments_min:
        enroll = enroll[:, : int(torch.randint(params.enrollments_min, enroll.shape[1] + 1, (), generator=generator))]
    if params.enroll_seconds_min:
        shortest = round(params.enroll_seconds_min * SAMPLE_RATE)
        share = torch.randint(0, 9, (), generator=generator).item() / 8  # only nine lengths, because kernels are prepared for each
        enroll = enroll[..., : shortest + round(share * (enroll.shape[-1] - shortest))]
    return enroll * keep.to(enroll)[:, None, None] if params.enroll_dropout else enroll


def spectrum_mask(mix: Tensor, params: Params, step: int, part: int) -> Tensor | None:
    """Return SpecAugment's mask for the mixture that the network sees: (B, T) -> (B, F, L) of 0 and 1; ``None`` without ``specaug``."""
    if not params.specaug:
        return None
    shape = (len(mix), params.n_fft // 2 + 1, mix.shape[-1] // params.hop_length + 2)  # padded and framed as in model.bands.Spectrum
    return specaug_mask(shape, params.specaug, params.specaug_masks, _step_seed(params, step, part)).to(mix)


def hide_bands(
    sounds: tuple[Tensor, Tensor, Tensor], shared: "Shared | None", params: Params, step: int, part: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Band-limit a share ``band_limit_prob`` of the mixtures (and targets), and of the enrolments, as if recorded at one of ``RATES``.
    Both are drawn independently; items that share one share its limit. Shape: mix (B, T), target (B, T), enroll (B, N, T') -> same"""
    mix, target, enroll = sounds
    if not params.band_limit_prob:
        return sounds
    generator = torch.Generator().manual_seed(_step_seed(params, step, part) ^ 1)  # not the generator that hides enrolments
    of_mix, of_enroll = (_edges(len(mix), params.band_limit_prob, generator) for _ in range(2))
    if shared is not None:
        of_mix, of_enroll = of_mix[shared.unique_mix][shared.mix_index], of_enroll[shared.unique_enroll][shared.enroll_index]
    return low_pass(mix, of_mix), low_pass(target, of_mix), low_pass(enroll, of_enroll)


def _edges(items: int, prob: float, generator: torch.Generator) -> Tensor:
    """Draw the frequency in Hz at which each item's band ends, (items,); infinite for items without a limit."""
    limited, rate, roll_off = torch.rand(3, items, generator=generator)
    low, high = ROLL_OFF
    edges = torch.tensor(RATES)[(rate * len(RATES)).long()] / 2 * (low + (high - low) * roll_off)
    return torch.where(limited < prob, edges, torch.inf)


def low_pass(audio: Tensor, edges_hz: Tensor) -> Tensor:
    """Remove what lies above each item's edge, zero-phase: (B, ..., T), (B,) -> (B, ..., T). An infinite edge leaves an item unchanged."""
    audio = audio.clone()
    for item, edge in zip(audio, edges_hz.tolist(), strict=True):
        if edge < SAMPLE_RATE / 2:
            spec = torch.fft.rfft(item)
            hertz = torch.linspace(0, SAMPLE_RATE / 2, spec.shape[-1], device=audio.device)
            spec *= band_edge(hertz, edge)
            item.copy_(torch.fft.irfft(spec, audio.shape[-1]))
    return audio
