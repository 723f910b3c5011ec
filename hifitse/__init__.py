"""HiFi-TSE workbook: 48 kHz target speaker extraction as a thin, tested library.

Data goes one way, and no module imports from a room further down::

    corpus -> mixture -> batch -> model -> loss -> run -> rows -> report

    presets.py    the files in params/, the same on a command line, the words of a refused parameter
    config.py     the parameters that decide the extractor's shape
    params.py     every parameter, typed, with unit and range
    decode.py     any sound file -> samples at its own rate, by libsndfile or FFmpeg
    audio.py      48 kHz mono audio in and out, resampling, levels
    files.py      atomic writes, weights into a module, folders that are made once
    machine.py    device, CPU threads, memory
    pool.py       tasks that may kill their process
    metrics.py    SI-SDR, levels, suppression, bootstrap intervals
    data/         corpora, synthetic voices, noise, rooms -> scenes -> mixtures -> batches
    losses/       loss terms by the name they are logged under, and their weighted sum
    model/        the extractor: (mix, enroll) -> est
    training/     parameters -> finished run
    evaluation/   run -> one row per mixture -> means, paired differences, costs
    report/       rows -> tables, figures, players, page, metrics.json, index
    studies/      what exactly one notebook needs
    prepare/      a folder of recordings -> manifest and audit page
    commands/     the commands of ``hifitse``; the interactive panel

The first lines of each room's ``__init__.py`` list its files; ``pretrained_model/`` is the model that comes with the library.

Axis letters: B batch, T samples, F frequency bins, L frames, K bands, D features, N enrolments, S sources.
"""

import os
import sys

SAMPLE_RATE = 48_000  # Hz. The one rate inside the library; files at other rates are resampled when they are read.

if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
    # Threads of torch that wait by spinning are several times slower where anything else runs; read once, when torch is loaded.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
if "numpy" not in sys.modules:  # whose threads spin too: each data worker would have as many of them as there are cores
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


class HifitseError(Exception):
    """Bad input, said in one sentence: what is wrong, what was expected, what was given; in notebooks without the stack above it."""

    def _render_traceback_(self) -> list[str]:  # the hook by which IPython asks for an exception's text
        return [f"{type(self).__name__}: {self}"]
