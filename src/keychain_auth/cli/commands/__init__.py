"""All commands: a folder for each thing that a person does, in it a file for each command or group of them.

``cli/app.py`` says which command is where. Most folders know nothing of each other (the contract in pyproject.toml has
the few that do): what two of them need is in ``cli/shared``.
"""
