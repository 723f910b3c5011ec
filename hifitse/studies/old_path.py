"""The same mixtures in the ways that the plan replaces: the reference for what the present path gains, and for nothing else.

Speed by ``scipy.signal.resample`` (one Fourier transform over the whole stretch), rooms by ``scipy.signal.fftconvolve`` with the
response's file decoded for each mixture, and every recording decoded from its beginning to its end for each stretch of it. All draws
are those of :class:`hifitse.data.mixing.Mixer`, and so are levels, crops and metadata: the content is the same but for the resampler.
"""

from collections.abc import Sequence
from math import ceil, gcd

import numpy as np
from scipy.signal import fftconvolve, resample

from hifitse import audio
from hifitse.data.mixing import Mixer
from hifitse.data.reader import Reader, Recording
from hifitse.data.rendering import Renderer
from hifitse.data.scene import File
from hifitse.params import Params


def change_speed(signal: np.ndarray, factor: float) -> np.ndarray:
    """A signal (T,) played ``factor`` times as fast, (ceil(T / factor),) float32, by ``scipy.signal.resample``: what is near its two
    ends rings into each other, for it is taken as periodic.

    Up to 200 zeros are put behind it, so that its length is divided without remainder: the factor would be another one else.
    """
    percent = round(100 * factor)
    if percent == 100:
        return signal
    step = percent // gcd(100, percent)
    padded = audio.crop_or_pad(signal, -(-len(signal) // step) * step)
    return resample(padded, 100 * len(padded) // percent)[: ceil(100 * len(signal) / percent)].astype(np.float32, copy=False)


def reverberate(dry: np.ndarray, responses: list[np.ndarray]) -> np.ndarray:
    """Each row convolved with its response by ``scipy.signal.fftconvolve``, (S, T) -> (S, T); what rings on beyond the end is cut."""
    return np.stack([fftconvolve(row, rir)[: len(row)] for row, rir in zip(dry, responses, strict=True)]).astype(np.float32, copy=False)


class OldReader(Reader):
    """Stretches of files decoded whole each time."""

    def read(self, file: Recording, start: int, samples: int) -> np.ndarray:
        return self.whole(file)[start : start + samples]


class OldRenderer(Renderer):
    """Speed and rooms in the old ways."""

    def faster(self, crop: np.ndarray, speed: float) -> np.ndarray:
        return change_speed(crop, speed)

    def reverberate(self, dry: np.ndarray, responses: Sequence[File]) -> np.ndarray:
        return reverberate(dry, [self.response(file) for file in responses])


class OldMixer(Mixer):
    """Mixtures of one split in the old ways; arguments and errors as :class:`hifitse.data.mixing.Mixer`.

    In a process of its own the memory goes back to the system as it did: :func:`hifitse.machine.keep_freed_memory` is not called.
    """

    keeps_memory = False

    def __init__(self, params: Params, split: str) -> None:
        super().__init__(params, split)
        self.reader = self.sampler.reader = OldReader(self.corpus.root)
        self.acoustics.reader = OldReader(self.acoustics.noises.root) if self.acoustics.noises else None
        self.renderer = OldRenderer(self.reader, self.acoustics.reader, self.renderer.rooms)
