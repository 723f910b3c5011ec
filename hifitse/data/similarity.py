"""Similarity of the voices in a corpus, from timbre and pitch, so that a curriculum can choose interferers with similar voices.

A voice is described by the mean and standard deviation of 19 mel-frequency cepstral coefficients (without the first, the level) and by
the median of the log pitch, over the active frames of up to two utterances of up to 3 s each. Each value is standardised over the
speakers; the pitch then counts three times. The similarity of two voices is the cosine of their descriptions.
"""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.fft import irfft, rfft

from hifitse import SAMPLE_RATE, HifitseError, audio
from hifitse.data.corpus import Corpus, Utterance
from hifitse.data.manifest import middle
from hifitse.data.sampling import FRAME, activity_mask
from hifitse.decode import channel_of
from hifitse.files import made_once

VERSION = 2  # increase it when the same utterances give other descriptions
UTTERANCES, TRIED = 2, 8  # utterances that describe a speaker, and how many are tried at most
SECONDS = 3.0
RATE = 16_000  # Hz: rate at which voices are described
HOP = FRAME * RATE // SAMPLE_RATE  # the same frames as for activity
WINDOW = 2 * HOP
COEFFICIENTS = 20
PITCH_HZ = (60, 500)
VOICED = 0.5  # smallest normalised autocorrelation of a voiced frame
OCTAVE = 0.9  # share of the highest autocorrelation that a shorter period must reach: twice the period fits as well
UNVOICED_HZ = 150.0  # assumed for a voice without voiced frames
PITCH_WEIGHT = 3.0


class Voices:
    """Descriptions (S, D) of speakers, standardised over all of them.

    A row of NaN stands for a speaker without usable sound, whose similarity to all others is 0, as for unrelated voices."""

    def __init__(self, names: list[str], described: np.ndarray) -> None:
        self.places = {name: place for place, name in enumerate(names)}
        known = ~np.isnan(described).any(axis=1)
        unit = np.zeros(described.shape)
        if known.any():
            unit[known] = described[known] - described[known].mean(axis=0)
            unit[known] /= unit[known].std(axis=0) + 1e-9
        unit[:, -1] *= PITCH_WEIGHT
        self._unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-9)  # (S, D)

    @classmethod
    def of(cls, corpus: Corpus) -> "Voices":
        """Return the voices of a corpus, described on the first call (some 30 ms per speaker), then cached by the files' content."""
        digest = hashlib.sha256()
        for said in corpus.speakers.values():
            digest.update(b"speaker")
            for utterance in said[:TRIED]:
                path, channel = channel_of(corpus.root / utterance.path)
                digest.update(f"{utterance.samples} {channel} ".encode())
                with suppress(OSError):
                    digest.update(middle(path))
        def make(folder: Path) -> None:
            np.save(folder / "voices.npy", np.stack([_speaker(corpus, said) for said in corpus.speakers.values()]), allow_pickle=False)

        folder = made_once(f"similarity-v{VERSION}-{digest.hexdigest()[:16]}", make)
        return cls(list(corpus.speakers), np.load(folder / "voices.npy", allow_pickle=False))

    def similarity(self, one: str, other: str) -> float:
        """Return the cosine of two voices, -1 to 1; 0 if one is not known. Raise HifitseError for a name not in the corpus."""
        return float(self._similarities(one, [other])[0])

    def nearest(self, name: str, among: list[str]) -> list[str]:
        """Return ``among`` sorted from the most to the least similar to ``name``. Raise HifitseError for a name not in the corpus."""
        return [other for _, other in sorted(zip((-self._similarities(name, among)).tolist(), among, strict=True))]

    def _similarities(self, name: str, among: list[str]) -> np.ndarray:
        for unknown in {name, *among} - self.places.keys():
            raise HifitseError(f"speaker is {unknown!r}, expected one of the {len(self.places)} of the corpus")
        own, rows = self._unit[self.places[name]], self._unit[[self.places[other] for other in among]]  # (D,), (S', D)
        return np.einsum("sd,d->s", rows, own)  # unlike a matrix product, sums in one order for any number of threads


def _speaker(corpus: Corpus, utterances: Sequence[Utterance]) -> np.ndarray:
    """Return the mean description (D,) of the first utterances that are neither broken nor silent; NaN if there are none."""
    found, longest = [], round(SECONDS * SAMPLE_RATE)
    for utterance in utterances[:TRIED]:
        with suppress(HifitseError):
            values = describe(corpus.read(utterance, max(0, (utterance.samples - longest) // 2), longest))
            found += [values] if values is not None else []
        if len(found) == UTTERANCES:
            break
    return np.mean(found, axis=0) if found else np.full(2 * (COEFFICIENTS - 1) + 1, np.nan)


def describe(speech: np.ndarray) -> np.ndarray | None:
    """Return the description (39,) of a voice from a recording (T,), not standardised: means, standard deviations, log2 of the pitch in Hz.
    Return ``None`` if it is silent or shorter than two frames of 20 ms."""
    found = activity_mask(speech) if len(speech) >= 2 * FRAME else None
    if found is None:
        return None
    signal = audio.resample(speech * np.float32(found.gain), SAMPLE_RATE, RATE)
    cepstra = _cepstra()(torch.from_numpy(signal)).numpy()[1:]  # (C, L)
    frames = min(cepstra.shape[1], len(found.active))
    active = found.active[:frames]
    cepstra = cepstra[:, :frames][:, active]
    return np.concatenate([cepstra.mean(axis=1), cepstra.std(axis=1), [np.log2(pitch_hz(signal, active))]])


@cache
def _cepstra() -> Any:
    from torchaudio.transforms import MFCC

    return MFCC(RATE, COEFFICIENTS, melkwargs={"n_fft": 1024, "win_length": WINDOW, "hop_length": HOP, "n_mels": 40})


def pitch_hz(signal: np.ndarray, active: np.ndarray) -> float:
    """Return the median pitch in Hz of the voiced frames among the active ones (L,) of a signal (T,) at 16 kHz.

    From the autocorrelation over that of the window (Boersma 1993); torchaudio's ``detect_pitch_frequency`` takes four times as long."""
    window = np.hanning(WINDOW)
    padded = np.pad(signal, (WINDOW // 2 - HOP // 2, WINDOW + HOP * len(active)))
    framed = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][: len(active)][active] * window  # (L', WINDOW)
    size, shortest, longest = 2 * WINDOW, RATE // PITCH_HZ[1], RATE // PITCH_HZ[0]
    own = irfft(np.abs(rfft(window, size)) ** 2)[: longest + 1]
    correlation = irfft(np.abs(rfft(framed, size)) ** 2)[:, : longest + 1]  # (L', lags)
    correlation = (correlation / np.maximum(correlation[:, :1], 1e-12) * (own[0] / own))[:, shortest:]
    voiced = correlation[correlation.max(axis=1, initial=0) > VOICED]
    if not len(voiced):
        return UNVOICED_HZ
    # The first local peak that is nearly as high as the highest.
    risen = np.diff(voiced, axis=1, prepend=-np.inf) >= 0
    peaks = risen & (np.diff(voiced, axis=1, append=-np.inf) <= 0) & (voiced > OCTAVE * voiced.max(axis=1, keepdims=True))
    return float(np.median(RATE / (shortest + peaks.argmax(axis=1))))
