"""Sound in, batches out: corpora, synthetic voices, noise and rooms, mixtures, and the batches made of them.

Where sound comes from:
    cache.py      folders that are made once and kept on disk
    voices.py     espeak-ng in a process of its own: text -> raw speech
    speakers.py   synthetic speakers: who they are, what they say, how it becomes 48 kHz speech
    noises.py     kinds of synthetic noise
    synthetic.py  the embedded sources: folders of synthetic speech and noise
    rooms.py      the synthetic room bank; aligning and measuring any room response
    corpus.py     speakers -> utterances, from folders and manifests, with disjoint splits
    clips.py      the same for noise recordings and room responses

What is made of it: mixtures (``mixing.py`` and what it imports), then batches (``dataset.py``).
"""
