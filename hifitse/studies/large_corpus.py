"""A corpus of millions of utterances, simulated: what a start costs, how much memory it takes, how fast utterances are found.

The manifest is whole: a line and an existing path for each utterance. The sound is not: the paths lead, by links, to the few
recordings of a small corpus. So lists and look-ups are those of the large corpus, and reading from a large disk is not measured.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from hifitse import HifitseError
from hifitse.data import corpus as corpora
from hifitse.data.corpus import Corpus, load_corpus
from hifitse.files import cache_dir
from hifitse.machine import peak_mb, resident_mb
from hifitse.params import Params

PER_SPEAKER = 1000
"""Utterances of a speaker in a large manifest; a small one has at least 10 speakers."""
RECORDINGS = 12
"""That are copied; all other paths lead to these."""
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def simulate(source: Corpus, folder: Path, utterances: int) -> Path:
    """Write a manifest of ``utterances`` lines (rounded down to whole speakers), each of which leads to a recording of ``source``.

    Args:
        source: a small corpus of files of one suffix.
        folder: an empty or new one.
        utterances: 20 or more.

    Raises:
        HifitseError: fewer utterances, or no links or no room on this disk.
    """
    if utterances < 20:
        raise HifitseError(f"utterances of the simulated corpus are {utterances}, allowed are 20 or more")
    each = min(PER_SPEAKER, utterances // 10)
    real = [said for speaker in list(source.speakers.values())[: min(each, RECORDINGS)] for said in speaker[:1]]
    try:
        (folder / "pool").mkdir(parents=True)
        tails = []
        for number in range(each):
            said = real[number % len(real)]
            name = f"{number:04d}{Path(said.path).suffix}"
            if number < len(real):
                shutil.copyfile(source.root / said.path, folder / "pool" / name)
            else:
                os.link(folder / "pool" / tails[number % len(real)][1], folder / "pool" / name)
            samples = round(said.samples * said.sample_rate / 48_000)
            tails.append((f"{number:04d}", name, f'"samples": {samples}, "sample_rate": {said.sample_rate}'))
        manifest = folder / "manifest.jsonl"
        with open(manifest, "w", encoding="utf-8") as file:
            for speaker in range(utterances // each):
                who = f"s{speaker:06d}"
                os.symlink(folder / "pool", folder / who)
                lines = (f'{{"speaker": "{who}", "utterance": "{name}", "path": "{who}/{path}", {rest}}}\n' for name, path, rest in tails)
                file.writelines(lines)
    except OSError as error:
        message = f"corpus of {utterances} utterances cannot be simulated in {folder} ({error})"
        raise HifitseError(f"{message}, allowed is an empty place on a disk with links") from None
    return manifest


def fresh(manifest: Path, params: Params, in_memory: bool = False, mixtures: int = 10) -> dict[str, float]:
    """Load a manifest in a process of its own, whose index is kept beside the manifest, and use it.

    Args:
        manifest: of :func:`simulate`.
        params: of the mixtures; their corpus is the manifest.
        in_memory: keep the list in memory, as a small corpus is kept, whatever its length.
        mixtures: to make, 1 or more.

    Returns:
        ``start_s``: until train, valid and test are there; ``corpus_mb``: resident memory that this added, and ``peak_mb``: the most on
        the way;
        ``lookups_per_s``: a speaker and two utterances in random order; ``used_mb``: resident memory added after these;
        ``first_mixtures_ms``: mean CPU time of the first mixtures, in which nothing is warm.

    Raises:
        HifitseError: the process failed, with its last words.
    """
    request = {"manifest": str(manifest), "params": params.model_dump(mode="json"), "in_memory": in_memory, "mixtures": mixtures}
    code = "from hifitse.studies.large_corpus import _answer; _answer()"
    environment = os.environ | ENVIRONMENT | {"HIFITSE_CACHE": str(_cache(manifest.parent / ".cache"))}
    done = subprocess.run([sys.executable, "-c", code], input=json.dumps(request), capture_output=True, text=True, env=environment)
    if done.returncode:
        raise HifitseError(f"process that loads {manifest} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _cache(folder: Path) -> Path:
    """A cache that has all that the user's has, by links, and keeps to itself what is added: an index of gigabytes."""
    folder.mkdir(exist_ok=True)
    for path in cache_dir().iterdir() if cache_dir().is_dir() else ():
        if not path.name.startswith((".", "index-")) and not (folder / path.name).exists():
            os.symlink(path, folder / path.name)
    return folder


def _answer() -> None:
    """What :func:`fresh` asks of its process: a request on the input, one line of JSON on the output."""
    from hifitse.data.mixing import Mixer, validation_conditions

    request = json.load(sys.stdin)
    params = Params(**request["params"])
    if request["in_memory"]:
        corpora.INDEXED_BYTES = 2**62
    else:
        corpora.INDEXED_BYTES = 0
    Mixer(params, "train")  # what any start imports and opens
    before, started = resident_mb(), time.perf_counter()
    corpus = load_corpus(request["manifest"])
    sides = corpus.split(params.valid_share, params.test_share, params.corpus_seed)
    answer: dict[str, Any] = {"start_s": time.perf_counter() - started, "corpus_mb": resident_mb() - before}
    answer["peak_mb"] = peak_mb() - before
    answer |= _lookups(sides["train"]) | {"used_mb": resident_mb() - before}
    del corpus, sides
    mixer = Mixer(params.model_copy(update={"corpus": request["manifest"]}), "train")
    conditions = validation_conditions(params)[0]
    started = time.process_time()
    for index in range(request["mixtures"]):
        mixer.mixture(0, index, conditions)
    answer["first_mixtures_ms"] = 1e3 * (time.process_time() - started) / request["mixtures"]
    print(json.dumps(answer))


def _lookups(corpus: Corpus, seconds: float = 1.0) -> dict[str, float]:
    """Speakers with two random utterances, found a second of CPU time."""
    rng, names, count = np.random.default_rng(0), list(corpus.speakers), 0
    started = time.process_time()
    while time.process_time() - started < seconds:
        said = corpus.speakers[names[rng.integers(len(names))]]
        _ = [said[int(number)].path for number in rng.permutation(len(said))[:2]]
        count += 1
    return {"lookups_per_s": count / (time.process_time() - started)}


def measure(source: Corpus, folder: Path, params: Params, utterances: int, in_memory: int) -> dict[str, dict[str, float]]:
    """First start (the index is made), second start, and the list in memory with fewer utterances, each in a process of its own.

    Args:
        source: the small corpus behind the links.
        folder: an empty one, for manifests and indices.
        params: of the mixtures.
        utterances: of the manifest that is indexed.
        in_memory: at most so many in the manifest that is kept in memory.
    """
    manifest = simulate(source, folder / "large", utterances)
    fewer = simulate(source, folder / "fewer", min(utterances, in_memory))
    lines = {"first start, index made": utterances, "every later start": utterances, "list in memory": min(utterances, in_memory)}
    found = {}
    for name, count in lines.items():
        one = manifest if name != "list in memory" else fewer
        found[name] = {"utterances": count} | fresh(one, params, in_memory=name == "list in memory")
    return found
