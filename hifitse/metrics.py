"""Metrics of an estimate: SI-SDR, levels and spectral distance; and means with bootstrap confidence intervals.

SI-SDR, SI-SDRi, levels and suppression accept torch tensors with any leading shape and are differentiable. The log-spectral
distance accepts one numpy signal at 48 kHz, as do PESQ and STOI (:mod:`hifitse.evaluation.perceptual`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from hifitse import SAMPLE_RATE, HifitseError

SILENCE_MEAN_SQUARE = 1e-13  # -130 dBFS: signals at or below this level count as digital silence
SI_SDR_LIMIT_DB = 100.0  # SI-SDR lies within plus and minus this value; a silent estimate has the lower limit
LEVEL_FLOOR_DB = -120.0  # dBFS: the lowest level, and that of silence


class MetricError(HifitseError, ValueError):
    """Signals or values cannot be compared, for example because their shapes differ."""


def si_sdr(est: Tensor, target: Tensor) -> Tensor:
    r"""Scale-invariant signal-to-distortion ratio over the last axis, without removal of the mean.

    .. math:: 10 \log_{10} \|\alpha s\|^2 / \|\hat s - \alpha s\|^2, \quad \alpha = \langle \hat s, s \rangle / \|s\|^2

    Invariant to the scale of either signal, down to silence (-130 dBFS). Half precision is converted to float32.

    Args:
        est, target: ``(..., T)``, same shape.

    Returns:
        ``(...)`` in dB, from -100 (also for a silent estimate) to 100; ``nan`` where the target is silent: select the present
        targets *before* taking a mean. The gradient is finite in both cases.

    Raises MetricError: shapes differ, or there are no samples.

    Source: Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019.

    Example:
        >>> si_sdr(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 0.0]))  # as much distortion as target
        tensor(0.)
    """
    _same_shape(est, target)
    est, target = (x.float() if x.dtype in (torch.float16, torch.bfloat16) else x for x in (est, target))
    silence = SILENCE_MEAN_SQUARE * est.shape[-1]
    limit = 10 ** (-SI_SDR_LIMIT_DB / 10)
    est_energy = est.square().sum(-1, keepdim=True)  # (..., 1)
    target_energy = target.square().sum(-1, keepdim=True)
    scaled = (est * target).sum(-1, keepdim=True) / target_energy.clamp(min=silence) * target
    # The limit is relative to the estimate, to keep the ratio scale-invariant. What an estimate lacks to silence counts as distortion.
    floor = limit * est_energy.clamp(min=silence)
    lacking = (silence - est_energy).clamp(min=0)
    ratio = (scaled.square().sum(-1, keepdim=True) + floor) / ((est - scaled).square().sum(-1, keepdim=True) + floor + lacking)
    value = 10 * torch.log10(ratio)
    return torch.where(target_energy <= silence, torch.nan, value).squeeze(-1)


def si_sdri(est: Tensor, mix: Tensor, target: Tensor) -> Tensor:
    """Return the SI-SDR of the estimate minus that of the mixture: ``(..., T)`` each -> ``(...)`` dB; ``nan`` if the target is silent."""
    return si_sdr(est, target) - si_sdr(mix, target)


def level_db(signal: Tensor) -> Tensor:
    """Return the RMS level over the last axis: ``(..., T)``, full scale 1 -> ``(...)`` dBFS, at least -120 (the level of silence)."""
    _same_shape(signal)
    floor = 10 ** (LEVEL_FLOOR_DB / 10)
    return 10 * torch.log10(signal.float().square().mean(-1).clamp(min=floor))


def suppression_db(est: Tensor, mix: Tensor) -> Tensor:
    """Return how far the estimate is below the mixture, the metric for absent targets: ``(..., T)`` each -> ``(...)`` dB."""
    _same_shape(est, mix)
    return level_db(mix) - level_db(est)


def log_spectral_distance(est: np.ndarray, target: np.ndarray, low_hz: float = 0.0, high_hz: float = SAMPLE_RATE / 2) -> float:
    """Return the log-spectral distance in a frequency range. Useful above 8 kHz, where PESQ and STOI measure nothing.

    This is the root mean square over bins of the difference of the spectra in dB, averaged over frames of 43 ms. Both spectra are
    clamped at 80 dB below the target's strongest bin.

    Args:
        est, target: ``(T,)`` at 48 kHz.
        low_hz, high_hz: frequency range, within 0 to 24,000 Hz and at least one bin (24 Hz) wide.

    Returns dB, 0 or more; ``nan`` if the target is silent. Raises MetricError: shapes differ, or the range is invalid.

    Source: Gray and Markel, "Distance measures for speech processing", IEEE TASSP 1976.
    """
    _same_shape(est, target)
    n_fft = 2048
    bins = np.arange(n_fft // 2 + 1) * SAMPLE_RATE / n_fft
    inside = torch.from_numpy((bins >= low_hz) & (bins <= high_hz))
    if not 0 <= low_hz < high_hz <= SAMPLE_RATE / 2 or not inside.any():
        raise MetricError(f"the range is {low_hz} to {high_hz} Hz, expected a rising one within 0 to {SAMPLE_RATE // 2} Hz, 24 Hz wide")
    signals = torch.from_numpy(np.stack([est, target]).astype(np.float64))  # (2, T)
    window = torch.hann_window(n_fft, dtype=torch.float64)
    spectra = torch.stft(signals, n_fft, n_fft // 4, window=window, pad_mode="constant", return_complex=True)  # (2, F, L)
    power = spectra.abs().square()
    peak = power[1].max()
    if peak == 0:
        return float("nan")
    decibels = 10 * torch.log10(power.clamp(min=peak * 1e-8))[:, inside]
    return float((decibels[0] - decibels[1]).square().mean(0).sqrt().mean())


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % bootstrap interval."""

    mean: float  # over the items that have a value; ``nan`` if none has
    low: float  # ``nan``, like ``high``, with fewer than two items
    high: float
    n: int  # number of items (mixtures) that have a value

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies entirely on one side of 0; ``False`` if there is no interval."""
        return bool(self.low > 0 or self.high < 0)


RESAMPLES = 5_000  # bootstrap samples: the ends of a 95 % interval then vary by about 2 % of its width between seeds


def bootstrap(values: ArrayLike, seed: int = 0, speakers: ArrayLike | None = None) -> Interval:
    """Return the mean over mixtures with its 95 % percentile interval.

    Args:
        values: ``(M,)``, one value per mixture; or ``(S, M)``, for S runs with different seeds on the same M mixtures. Runs are then
            resampled as well as mixtures, so that the interval also covers the variation between trainings. Values that are not
            finite are dropped.
        speakers: ``(M,)``, the target speaker of each mixture. The interval then also covers the one from resampling speakers, each with
            all their mixtures, because mixtures of one speaker are alike: 250 mixtures of 14 speakers say little more about others than
            14 do. With fewer than about ten speakers it is still too narrow.

    Raises MetricError: more than two axes, or another number of speakers than of mixtures.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13; Davison and Hinkley, "Bootstrap Methods and their
    Application", 1997, section 3.8 (clusters).
    """
    return combination([(values, 1.0)], seed, speakers)


def paired(a: ArrayLike, b: ArrayLike, seed: int = 0, speakers: ArrayLike | None = None) -> Interval:
    """Return the mean of ``a - b`` over the mixtures where both have a finite value: ``a`` (M,) or (S, M), ``b`` (M,) or (S', M). The runs
    of both are resampled independently. ``speakers`` and errors as in :func:`bootstrap`."""
    return combination([(a, 1.0), (b, -1.0)], seed, speakers)


def unpaired(a: ArrayLike, b: ArrayLike, seed: int = 0, speakers: Sequence[ArrayLike | None] = (None, None)) -> Interval:
    """Return mean ``a`` minus mean ``b``, each (M,) or (S, M), of different mixtures, drawn independently; ``n`` is the smaller count.
    ``speakers``: those of ``a`` and of ``b``, as in :func:`bootstrap`."""
    runs = [_runs(values) for values in (a, b)]
    kept = [np.isfinite(each).any(0) for each in runs]
    groups = [_groups(*pair) for pair in zip(speakers, kept, strict=True)]
    runs = [each[:, valid] for each, valid in zip(runs, kept, strict=True)]
    mean = float(np.nanmean(runs[0]) - np.nanmean(runs[1])) if all(valid.any() for valid in kept) else float("nan")

    def difference(level: int, rng: np.random.Generator, draws: int) -> np.ndarray:
        first, second = (_weighted_means(each, _drawn(group[level], draws, rng), rng) for each, group in zip(runs, groups, strict=True))
        return first - second

    return _interval(mean, min(valid.sum() for valid in kept), difference, seed)


def combination(terms: Sequence[tuple[ArrayLike, float]], seed: int = 0, speakers: ArrayLike | None = None) -> Interval:
    """Return the weighted sum of the means of several arms. It uses the mixtures for which all arms have a finite value, and resamples
    each mixture, or each speaker, jointly for all arms.

    Args:
        terms: pairs of values as in :func:`bootstrap`, for the same mixtures in the same order, and the weight of their mean.
        speakers: as in :func:`bootstrap`.

    Raises MetricError: the number of mixtures differs.
    """
    runs, weights = [_runs(values) for values, _ in terms], [weight for _, weight in terms]
    if len({each.shape[1] for each in runs}) > 1:
        counts = ", ".join(str(each.shape[1]) for each in runs)
        raise MetricError(f"values to combine are of {counts} mixtures, expected the same number")
    kept = np.logical_and.reduce([np.isfinite(each).any(0) for each in runs])
    groups, runs, n = _groups(speakers, kept), [each[:, kept] for each in runs], kept.sum()
    mean = float(sum(weight * np.nanmean(each) for each, weight in zip(runs, weights, strict=True))) if n else float("nan")

    def weighted_sum(level: int, rng: np.random.Generator, draws: int) -> np.ndarray:
        mixtures = _drawn(groups[level], draws, rng)
        return sum(weight * _weighted_means(each, mixtures, rng) for each, weight in zip(runs, weights, strict=True))

    return _interval(mean, n, weighted_sum, seed, levels=1 if groups[1] is groups[0] else 2)


def _interval(
    mean: float, n: int, resampled: Callable[[int, np.random.Generator, int], np.ndarray], seed: int, levels: int = 2
) -> Interval:
    """Return the interval that covers those from resampling mixtures (level 0) and, with two levels, speakers (level 1)."""
    if n < 2:
        return Interval(mean, float("nan"), float("nan"), int(n))
    chunk = max(1, 2_000_000 // n)  # limits the memory for the counts
    ends = []
    for level in range(levels):
        rng = np.random.default_rng(seed)
        means = [resampled(level, rng, min(chunk, RESAMPLES - start)) for start in range(0, RESAMPLES, chunk)]
        ends.append(np.nanquantile(np.concatenate(means), (0.025, 0.975)))
    return Interval(mean, float(min(low for low, _ in ends)), float(max(high for _, high in ends)), int(n))


def _runs(values: ArrayLike) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)  # None becomes nan
    if values.ndim not in (1, 2):
        raise MetricError(f"values have {values.ndim} axes, expected (mixtures,) or (runs, mixtures)")
    return np.atleast_2d(values)


def _groups(speakers: ArrayLike | None, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, counted from 0, the number of each kept mixture, and that of its speaker. Without several speakers, both are the same."""
    if speakers is not None and np.shape(speakers) != kept.shape:
        raise MetricError(f"speakers have the shape {np.shape(speakers)}, expected one speaker for each of {len(kept)} mixtures")
    mixtures = np.arange(kept.sum())
    names, group = np.unique([] if speakers is None else np.asarray(speakers)[kept], return_inverse=True)
    return mixtures, group if len(names) > 1 else mixtures


def _drawn(group: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return how often each item is drawn, if its ``n`` groups are drawn ``n`` times with replacement, repeatedly: ``(draws, items)``."""
    n = group.max() + 1
    return rng.multinomial(n, np.full(n, 1 / n), size=draws)[:, group]


def _weighted_means(runs: np.ndarray, mixtures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the mean of ``(S, M)`` for each draw ``(draws, M)`` of mixtures, resampling the runs too: ``(draws,)``."""
    drawn = _drawn(np.arange(len(runs)), len(mixtures), rng)
    finite = np.isfinite(runs)
    total = np.einsum("ds,sm,dm->d", drawn, np.where(finite, runs, 0.0), mixtures, optimize=True)
    weight = np.einsum("ds,sm,dm->d", drawn, finite.astype(np.float64), mixtures, optimize=True)
    return np.divide(total, weight, out=np.full(len(total), np.nan), where=weight > 0)


def _same_shape(*signals: Tensor | np.ndarray) -> None:
    shapes = [tuple(signal.shape) for signal in signals]
    if len(set(shapes)) > 1 or not shapes[0] or shapes[0][-1] == 0:
        raise MetricError(f"signals to compare have shapes {', '.join(map(str, shapes))}, expected one shape with at least one sample")
