"""Extraction from long recordings, measured: memory and time in a process of its own, by length, in chunks and as a whole.

The recording is on disk and read from there piece by piece, as ``hifitse extract`` does (:mod:`hifitse.model.extract_files`); the model
is the one that comes with the library.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soundfile
import torch

from hifitse import SAMPLE_RATE, HifitseError
from hifitse.audio import level_db
from hifitse.data.conditions import Conditions
from hifitse.data.mixing import Mixer
from hifitse.machine import peak_mb
from hifitse.model.extract_files import encode_files, extract_file
from hifitse.model.extraction import encode, stream
from hifitse.params import Params

PIECE_S = 4.0
"""s: length of the mixtures that a recording is put together from."""
SEAM_S = 60.0
"""s: length at which chunks and the whole are compared, as the plan asks for."""


def conversation(params: Params, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """A recording ``(T,)`` of two test speakers who go on talking, and an enrolment ``(T',)`` of one of them.

    Pieces of 4 s are one test mixture, each time from another place on and each speaker up to 3 dB louder or quieter.

    Args:
        params: sources of speech and noise.
        seconds: above 0.

    Raises:
        HifitseError: no length.
    """
    if not seconds > 0:
        raise HifitseError(f"seconds of the recording are {seconds}, allowed is a length above 0")
    alone = params.model_copy(update={"reverb_prob": 0.0, "interferers_min": [1], "interferers_max": [1], "seconds": PIECE_S})
    mixture = Mixer(alone, "test").mixture(0, 0, Conditions("test", PIECE_S, snr_min_db=15, snr_max_db=30))
    rng = np.random.default_rng(0)

    def turned(signal: np.ndarray) -> np.ndarray:
        return np.roll(signal, rng.integers(len(signal))) * np.float32(10 ** (rng.uniform(-3, 3) / 20))

    count = int(np.ceil(seconds / PIECE_S))
    pieces = [turned(mixture.target) + turned(mixture.interferers[0]) + mixture.noise for _ in range(count)]
    return np.concatenate(pieces)[: round(seconds * SAMPLE_RATE)], mixture.enroll[0]


def seam_db(extractor: Any, params: Params, seconds: float = SEAM_S) -> float:
    """Difference of extraction in chunks from extraction as a whole, dB re the whole's level.

    Args:
        extractor: a :class:`hifitse.model.Extractor`.
        params: as :func:`conversation`.
        seconds: s, above 0.
    """
    mix, enroll = conversation(params, seconds)
    speaker = encode(extractor, enroll)
    with torch.inference_mode():
        whole = extractor.extract_speaker(torch.from_numpy(mix)[None], speaker)[0].numpy()
    chunked = torch.cat(list(stream(extractor, [torch.from_numpy(mix)], speaker))).numpy()
    return level_db(chunked - whole) - level_db(whole)


def by_length(params: Params, lengths: list[float], whole_up_to: float = 0.0) -> dict[str, dict[float, dict[str, float]]]:
    """Extract from recordings of several lengths, each in a process of its own.

    Args:
        params: as :func:`conversation`; its threads.
        lengths: s, above 0.
        whole_up_to: s: up to this length a recording is extracted as a whole too, which needs memory in proportion.

    Returns:
        "in chunks" and "as a whole" -> s -> ``took_s``: of the extraction alone; ``peak_mb``: most resident memory of the process,
        ``before_mb``: what it had before the extraction began.

    Raises:
        HifitseError: the process failed, with its last words.
    """
    found: dict[str, dict[float, dict[str, float]]] = {"in chunks": {}, "as a whole": {}}
    with TemporaryDirectory() as name:
        folder = Path(name)
        mix, enroll = conversation(params, 30.0)
        soundfile.write(folder / "voice.wav", enroll, SAMPLE_RATE, subtype="FLOAT")
        for seconds in lengths:
            left = round(seconds * SAMPLE_RATE)
            with soundfile.SoundFile(folder / "mix.wav", "w", SAMPLE_RATE, 1, subtype="FLOAT") as file:
                while left > 0:  # written piece by piece: this process need not hold it either
                    file.write(mix[:left])
                    left -= len(mix[:left])
            for kind in ("in chunks", "as a whole") if seconds <= whole_up_to else ("in chunks",):
                found[kind][seconds] = _fresh(folder, kind, params.threads or torch.get_num_threads())
    return found


def _fresh(folder: Path, kind: str, threads: int) -> dict[str, float]:
    command = [sys.executable, "-c", "from hifitse.studies.long_recordings import _answer; _answer()", kind, str(threads)]
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})
    if done.returncode:
        raise HifitseError(f"process that extracts {kind} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _answer() -> None:
    """What :func:`_fresh` asks of its process, in a folder with ``mix.wav`` and ``voice.wav``: one line of JSON on the output."""
    from hifitse.model import Extractor

    kind, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    extractor = Extractor.from_pretrained()
    speaker = encode_files(extractor, ["voice.wav"])
    before, started = peak_mb(), time.perf_counter()
    if kind == "in chunks":
        extract_file(extractor, speaker, Path("mix.wav"), Path("est.wav"), progress=False)
    else:
        mix = torch.from_numpy(soundfile.read("mix.wav", dtype="float32")[0])
        with torch.inference_mode():
            soundfile.write("est.wav", extractor.extract_speaker(mix[None], speaker)[0].numpy(), SAMPLE_RATE, subtype="FLOAT")
    print(json.dumps({"took_s": time.perf_counter() - started, "peak_mb": peak_mb(), "before_mb": before}))
