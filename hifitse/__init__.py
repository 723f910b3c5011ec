"""HiFi-TSE workbook: 48 kHz target speaker extraction as a thin, tested library.

Data flows in one direction, and no module imports from a package further down::

    corpus -> mixture -> batch -> model -> loss -> run -> rows -> report

    presets.py    preset files in params/, the same parameters on a command line
    config.py     parameters of the extractor and of the mixtures, errors of refused values
    params.py     every parameter with type, unit and range
    decode.py     any sound file -> samples at its own rate, with libsndfile or FFmpeg
    audio.py      reading and writing 48 kHz mono audio, resampling, levels
    files.py      atomic writes, loading weights into a module, folders that are made once
    machine.py    device, CPU threads, memory
    pool.py       processes for tasks that may crash
    metrics.py    SI-SDR, levels, suppression, bootstrap intervals
    data/         corpora, synthetic voices, noise, rooms -> scenes -> mixtures -> batches
    losses/       loss terms, named as in the log, and their weighted sum
    model/        the extractor: (mix, enroll) -> est
    training/     parameters -> finished run
    evaluation/   run -> one row per mixture -> means, paired differences, costs
    report/       rows -> tables, figures, players, page, metrics.json, index
    studies/      code that only one notebook needs
    prepare/      a folder of recordings -> manifest and audit page
    commands/     the command line ``hifitse`` and the interactive panel

The docstring of each package lists its files; ``pretrained_model/`` is the model that comes with the library.

Axis letters: B batch, T samples, F frequency bins, L frames, K bands, D features, N enrolments, S sources.
"""

import os
import sys

SAMPLE_RATE = 48_000  # Hz: the only rate inside the library; files at other rates are resampled on reading

if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
    # Torch threads that spin while waiting are several times slower when other processes run. Torch reads this once, at import.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
if "numpy" not in sys.modules:  # its threads spin too, and each data worker would start one per core
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


class HifitseError(Exception):
    """Bad input, described in one sentence: what is wrong, expected and given. Notebooks show it without a traceback."""

    def _render_traceback_(self) -> list[str]:  # IPython calls this to display an exception
        return [f"{type(self).__name__}: {self}"]
