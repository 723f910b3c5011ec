"""The commands of ``hifitse``, one a file, and the interactive panel.

In: a command line, or a click in the panel.
Out: files, and an exit code.
May import every room.

    cli.py          the command ``hifitse`` and its exit codes
    run.py extract.py prepare.py export.py compare.py gallery.py params.py scenes.py score.py    its commands
    sitting.py      pack, unpack, sitting: recordings for another machine, and one sitting there
    exporting.py    a finished run -> a model's folder
    model_card.py   the text that goes with a model
    explore.py      the interactive panel
    trial.py        one extraction by hand
    scene.py        a test mixture with other speakers, ratios, room
    drop_in.py      files that a reader drops in -> audio
"""
