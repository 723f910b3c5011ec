"""From parameters to a finished run: :func:`hifitse.training.train.train` and its building blocks.

In: parameters.
Out: a run folder.
May not import: evaluation or any later package.

    train.py       the main path: parameters -> finished run
    state.py       the training state and its optimisers: new, from a checkpoint, or from another run
    run.py         the run folder: parameters, history, weights
    checkpoint.py  the files in it: checkpoints (safetensors), log rows, TensorBoard
    group.py       distributed training on several processes, and graceful stopping between steps
    adversary.py   discriminators trained alongside the extractor, and collapse detection
    validation.py  quick validation on held-out speakers during training
    abreast.py     several trainings in parallel, one process each; time per step, and how many steps fit into a time budget
"""
