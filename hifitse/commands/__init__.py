"""The commands of ``hifitse``, and the interactive panel.

    drop_in.py          files that a reader drops in -> audio
    scene.py            a test mixture with other speakers, ratios, room
    trial.py            one extraction by hand
    explore.py          the interactive panel
    model_card.py       the text that goes with a model
    exporting.py        a finished run -> a model's folder
    extract_command.py  the commands ``hifitse extract`` and ``hifitse export``
    prepare_command.py  the command ``hifitse prepare``
    cli.py              the command ``hifitse``
"""
