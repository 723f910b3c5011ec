"""Audio players inside the page: short clips as data URIs, all of one mixture with the same gain."""

import base64
import html
from collections.abc import Mapping

import numpy as np

from hifitse import SAMPLE_RATE
from hifitse.audio import encode

PEAK = 0.9
"""Largest sample of the loudest clip of a group; the rest is headroom for the overshoot of a lossy codec."""


def common_gain(clips: Mapping[str, np.ndarray]) -> float:
    """The one factor for all clips that brings the loudest sample among them to :data:`PEAK`, so that levels stay comparable."""
    peak = max((float(np.abs(audio).max(initial=0)) for audio in clips.values()), default=0.0)
    return PEAK / peak if peak > 1e-6 else 1.0


def players(clips: Mapping[str, np.ndarray], about: str) -> str:
    """HTML with one labelled player a clip, encoded by :func:`hifitse.audio.encode`.

    Args:
        clips: label -> ``(T,)`` at 48 kHz.
        about: what the clips belong to, such as "best mixture", for those who do not see the heading above.

    Raises:
        AudioError: a clip is empty or not finite.
    """
    gain = common_gain(clips)
    figures = []
    for label, audio in clips.items():
        data = base64.b64encode(encode(audio * gain, "mp3")).decode("ascii")  # every browser plays it
        spoken = html.escape(f"{label}, {about}, {len(audio) / SAMPLE_RATE:.1f} seconds")
        figures.append(
            f'<figure class="player"><figcaption>{html.escape(label)}</figcaption>'
            f'<audio controls preload="metadata" aria-label="{spoken}" src="data:audio/mpeg;base64,{data}"></audio></figure>'
        )
    return f'<div class="players">{"".join(figures)}</div>'
