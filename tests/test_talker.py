"""Stretches of speech from long recordings: a part is read once."""


import numpy as np
import pytest
from scipy.signal import correlate

from hifitse import SAMPLE_RATE, audio
from hifitse.data import sampling
from hifitse.data.corpus import load_corpus
from hifitse.data.reader import Reader
from hifitse.data.rendering import Renderer
from hifitse.data.sampling import WHOLE_S, SpeechSampler

SECOND = SAMPLE_RATE


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long") / "anna"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, seconds in (("a", 27), ("b", 31)):
        loud = np.repeat(rng.random(seconds) > 0.4, SECOND)
        audio.write(folder / f"{name}.flac", (0.1 * loud * rng.standard_normal(seconds * SECOND)).astype(np.float32))
    return load_corpus(folder.parent)


def drawn(corpus, seed: int, seconds: float = 4.0):
    """A segment, its sound, and the (start, samples) of every read from disk."""
    reads, read = [], audio.read

    def counted(path, start=0, samples=None):
        reads.append((start, samples))
        return read(path, start, samples)

    said = corpus.speakers["anna"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audio, "read", counted)
        reader = Reader(corpus.root, 0, WHOLE_S)
        segment = SpeechSampler(reader).draw(np.random.default_rng(seed), said[:1], said[1:], round(seconds * SECOND), 1.0)
        sound = Renderer(reader, None, None).segment(segment)
    return segment, sound, reads


def test_of_a_long_recording_one_part_is_read_and_only_once(corpus):
    """It was read whole to 20 s and then the crop again: most of the time of a mixture on corpora of long files."""
    for seed in range(5):
        *_, reads = drawn(corpus, seed)
        assert [samples for _, samples in reads] == [round(sampling.PART_S * SECOND)]
    *_, reads = drawn(corpus, 0, seconds=8.0)
    assert [samples for _, samples in reads] == [16 * SECOND]


def test_the_crop_is_that_piece_of_the_recording(corpus):
    whole = corpus.read(corpus.speakers["anna"][0])
    for seed in range(5):
        segment, sound, _ = drawn(corpus, seed)
        at = int(np.argmax(correlate(whole, sound, "valid", "fft")))
        piece = whole[at : at + len(sound)]
        gain = float(piece @ sound) / float(piece @ piece)
        assert gain > 1 and np.allclose(sound, gain * piece, atol=1e-4)
        assert segment.activity >= sampling.MIN_ACTIVITY
