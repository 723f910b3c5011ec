"""From parameters to a finished run: :func:`hifitse.training.train.train` and what it stands on.

In: parameters.
Out: a run's folder.
May not import: evaluation or any room after it.

    train.py       the main path: parameters -> finished run
    state.py       all that changes, with its optimisers: made again, from a checkpoint, or from another run
    run.py         the folder that a training leaves: parameters, history, weights
    checkpoint.py  what is written there: safetensors files, rows, TensorBoard
    group.py       the processes that train together, and a stop that comes after a whole step
    adversary.py   discriminators, which learn beside the extractor, and when to stop
    validation.py  a quick look at unseen speakers while training goes on
    abreast.py     several trainings at the same time, a process each; how long a step takes here, and how many fill a time
"""
