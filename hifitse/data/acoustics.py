"""What is around the talkers: a piece of noise, a room."""

from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np

from hifitse import SAMPLE_RATE, HifitseError, audio
from hifitse.data import rooms, synthetic
from hifitse.data.clips import Clip, Clips, Kind, load_clips, merged_clips
from hifitse.data.manifest import CorpusError, sources
from hifitse.data.reader import Reader, Recent
from hifitse.data.scene import File, Noise
from hifitse.data.talker import FRAME, WHOLE_S
from hifitse.params import Params

NOISE_TRIES = 100  # in a folder of which nine tenths are pauses, one mixture in 40,000 would find none
LOUD_POWER, SILENT_POWER = 1e-5, 1e-8  # -50 and -80 dBFS: a louder piece is taken as it is, a fainter one is silent, and drawn again
PAUSE = 1e-4  # a piece between the two is a pause where it lies 40 dB below its file: at the level of noise, dither would be heard
PROBES = 16  # seconds of a file by which its level is known


class Acoustics:
    """Noises and rooms of one split; ``None`` where the parameters need none.

    What only the enrolments of the evaluation need (``eval_enroll``) is not there for the training.
    """

    def __init__(self, params: Params, split: Literal["train", "valid", "test"]) -> None:
        def held(source: Literal["noise", "rooms"], kind: Kind) -> Clips:
            lists = merged_clips([load_clips(each, kind) for each in source_folders(params, source)])
            return lists.split(params.valid_share, params.test_share, params.corpus_seed)[split]

        asked = params.eval_enroll if split != "train" else "drawn"
        noisy = params.noise_prob > 0 or max(params.noisy_enroll_prob) > 0 or asked == "noisy"
        self.noises = held("noise", "noise") if noisy else None
        self.rooms = held("rooms", "room") if params.reverb_prob > 0 or asked == "reverberant" else None
        self.reverb_prob = params.reverb_prob
        self.reader = Reader(self.noises.root, params.cache_mb * 2**20) if self.noises else None
        self._powers: dict[str, float] = {}
        self._frames = Recent()
        self._groups = list(self.rooms.groups.items()) if self.rooms else []

    def room(self, rng: np.random.Generator, talkers: int, prob: float | None = None) -> tuple[str | None, list[File]]:
        """A room and a response for each talker, of other positions as far as it has some, as often as ``prob`` (``reverb_prob``) says.

        Where that is 0 nothing is drawn. CorpusError where a room is asked for, and none are loaded.
        """
        prob = self.reverb_prob if prob is None else prob
        if prob == 0 or rng.random() >= prob:
            return None, []
        if not self._groups:
            raise CorpusError("a room is asked for and none are loaded, expected parameters with reverb_prob above 0, or for eval_enroll")
        name, positions = self._groups[rng.integers(len(self._groups))]
        order = rng.permutation(len(positions))
        clips = [positions[order[number % len(order)]] for number in range(talkers)]
        return name, [File(clip.path, clip.samples) for clip in clips]

    def noise(self, rng: np.random.Generator, samples: int) -> Noise:
        """A piece of a noise recording that is neither silent nor a pause; CorpusError where none are loaded, or all are silent."""
        if self.noises is None:
            raise CorpusError("noise is asked for and none is loaded, expected parameters with noise_prob above 0, or for eval_enroll")
        reason = "every piece drawn was silent"
        for _ in range(NOISE_TRIES):
            clip = self.noises.clips[rng.integers(len(self.noises.clips))]
            start = int(rng.integers(max(1, clip.samples - samples + 1)))
            try:
                piece = Noise(File(clip.path, clip.samples, _rate(self.noises.root / clip.path)), start)
                if self._heard(clip, self._power(piece.file, start, samples)):
                    return piece
            except HifitseError as error:
                reason = str(error)
        raise CorpusError(f"noise folder {self.noises.root} gave no sound in {NOISE_TRIES} draws: {reason}")

    def _power(self, file: File, start: int, samples: int) -> float:
        """Mean square of a piece; a recording of up to 20 s is decoded whole once for that, of a longer one the piece each time."""
        def frames() -> tuple[np.ndarray, int]:
            sound = self.reader.look(file, 0, file.samples)
            framed = sound[: len(sound) // FRAME * FRAME].reshape(-1, FRAME)  # (L, FRAME)
            found = np.einsum("lt,lt->l", framed, framed) / FRAME
            return found, found.nbytes + 400

        inside = slice(-(-start // FRAME), (start + samples) // FRAME)
        if file.samples <= WHOLE_S * SAMPLE_RATE and len(known := self._frames.get(file.path, frames)[inside]):
            return float(known.mean())
        return power(self.reader.look(file, start, samples))

    def _heard(self, clip: Clip, found: float) -> bool:
        """Whether a piece with power ``found`` is the noise of its file, and not a pause in it."""
        if LOUD_POWER > found > SILENT_POWER and clip.path not in self._powers:
            starts = np.linspace(0, max(0, clip.samples - SAMPLE_RATE), PROBES).astype(int)
            self._powers[clip.path] = float(np.mean([power(self.noises.read(clip, start, SAMPLE_RATE)) for start in starts]))
        return found > max(SILENT_POWER, PAUSE * self._powers.get(clip.path, 0))


@lru_cache(100_000)
def _rate(path: Path) -> int:
    return audio.info(path).sample_rate


def source_folders(params: Params, kind: Literal["corpus", "noise", "rooms"]) -> list[Path | str]:
    """Where a kind of sound comes from; what is synthetic is made here."""
    seed = params.corpus_seed
    made = {
        "corpus": partial(synthetic.make_speech, params.synthetic_speakers, params.synthetic_utterances, seed),
        "noise": partial(synthetic.make_noise, seed, params.synthetic_noises),
        "rooms": partial(rooms.make_bank, params.synthetic_rooms, seed),
    }
    return [made[kind]() if each == "synthetic" else each for each in sources(getattr(params, kind))]


def power(signal: np.ndarray) -> float:
    """Mean square of (T,); never 0, so that it can be divided by."""
    # einsum runs on one thread, so that the sum has one order in every process.
    return max(float(np.einsum("t,t->", signal, signal)) / max(1, len(signal)), 1e-20)
