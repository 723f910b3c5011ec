"""Sound in, batches out: corpora, synthetic voices, noise and rooms, mixtures, and the batches made of them.

In: recordings or seeds, and parameters.
Out: mixtures and batches, functions of (seed, index) alone.
May not import: losses, model or any room after them.

Where sound comes from:
    voices.py     espeak-ng in a process of its own: text -> raw speech
    speakers.py   synthetic speakers: who they are, what they say, how it becomes 48 kHz speech
    synthetic.py  the embedded sources: folders of synthetic speech and of kinds of noise
    rooms.py      the synthetic room bank; aligning, measuring and convolving with any room response
    manifest.py   utterances, and lists of recordings as JSON lines, whose paths cannot leave their root
    index.py      large corpora: utterances on disk until they are asked for
    corpus.py     speakers -> utterances, from folders and manifests, with disjoint splits
    clips.py      the same for noise recordings and room responses
    content.py    what a source holds, by which runs and rows are named
    reader.py     stretches of recordings, kept in memory up to a limit

What is drawn:
    conditions.py  how hard a mixture is, who is there when: the curriculum, the fixed lists of the evaluation
    scene.py       a mixture before it is made: plain data, and lists of it
    talker.py      where a speaker's stretch of speech comes from
    similarity.py  which voices are alike
    acoustics.py   a piece of noise, a room
    elsewhere.py   talkers as if recorded elsewhere
    augment.py     changes of an enrolment: equaliser, band limit, codec, device; masks for a spectrogram
    enrolment.py   the enrolments of a mixture's talkers

What is made of it:
    rendering.py        a scene to sound
    mixing.py           one mixture: a scene drawn, from parameters, split, seed, index and conditions, and made into sound
    lists.py            test lists as scenes: written down, or imported from published ones
    device_store.py     decoded recordings on a GPU
    batch_rendering.py  scenes to a batch on a GPU
    shared.py           which items of a batch have a mixture or an enrolment in common
    dataset.py          indices to mixtures, each once or for both of its talkers, and to batches
"""
