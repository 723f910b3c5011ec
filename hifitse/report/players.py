"""Audio players inside the page: short clips as data URIs, all of one mixture with the same gain."""

import base64
from collections.abc import Mapping

import numpy as np
from markupsafe import Markup

from hifitse import SAMPLE_RATE
from hifitse.audio import encode
from hifitse.report.document import piece

PEAK = 0.9
"""Largest sample of the loudest clip of a group; the rest is headroom for the overshoot of a lossy codec."""


def common_gain(clips: Mapping[str, np.ndarray]) -> float:
    """The one factor for all clips that brings the loudest sample among them to :data:`PEAK`: levels stay comparable."""
    peak = max((float(np.abs(audio).max(initial=0)) for audio in clips.values()), default=0.0)
    return PEAK / peak if peak > 1e-6 else 1.0


def players(clips: Mapping[str, np.ndarray], about: str) -> Markup:
    """HTML with one labelled player per clip, as MP3, which every browser plays.

    Args:
        clips: label -> ``(T,)`` at 48 kHz.
        about: what the clips belong to, such as "best mixture", for those who do not see the heading above.

    Raises:
        AudioError: a clip is empty or not finite.
    """
    gain = common_gain(clips)
    shown = []
    for label, audio in clips.items():
        data = base64.b64encode(encode(audio * gain)).decode("ascii")
        shown.append((label, f"{label}, {about}, {len(audio) / SAMPLE_RATE:.1f} seconds", data))
    return piece("players", shown)
