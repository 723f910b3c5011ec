"""Audio players inside the page: short clips as data URIs, all of one mixture with the same gain."""

import base64
import html
import io
from collections.abc import Mapping

import numpy as np
import soundfile

from hifitse import SAMPLE_RATE

PEAK = 0.9
"""Largest sample of the loudest clip of a group; the rest is headroom for the overshoot of a lossy codec."""
COMPRESSION = 0.2
"""0 to 1, libsndfile's scale. At 0.2, about 14 kB a second, variable-rate MP3 keeps what lies below 18 kHz; by default it cuts at 16."""


def common_gain(clips: Mapping[str, np.ndarray]) -> float:
    """The one factor for all clips that brings the loudest sample among them to :data:`PEAK`, so that levels stay comparable."""
    peak = max((float(np.abs(audio).max(initial=0)) for audio in clips.values()), default=0.0)
    return PEAK / peak if peak > 1e-6 else 1.0


def mp3(audio: np.ndarray) -> bytes:
    """A signal ``(T,)`` at 48 kHz as a variable-rate MP3, which every browser plays."""
    memory = io.BytesIO()
    options = {"subtype": "MPEG_LAYER_III", "format": "MP3", "bitrate_mode": "VARIABLE", "compression_level": COMPRESSION}
    soundfile.write(memory, audio.astype(np.float32), SAMPLE_RATE, **options)
    return memory.getvalue()


def players(clips: Mapping[str, np.ndarray], about: str) -> str:
    """HTML with one labelled player a clip.

    Args:
        clips: label -> ``(T,)`` at 48 kHz.
        about: what the clips belong to, such as "best mixture", for those who do not see the heading above.
    """
    gain = common_gain(clips)
    figures = []
    for label, audio in clips.items():
        data = base64.b64encode(mp3(audio * gain)).decode("ascii")
        spoken = html.escape(f"{label}, {about}, {len(audio) / SAMPLE_RATE:.1f} seconds")
        figures.append(
            f'<figure class="player"><figcaption>{html.escape(label)}</figcaption>'
            f'<audio controls preload="metadata" aria-label="{spoken}" src="data:audio/mpeg;base64,{data}"></audio></figure>'
        )
    return f'<div class="players">{"".join(figures)}</div>'
