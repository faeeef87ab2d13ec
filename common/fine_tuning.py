"""Fine-tuning: a run that is resumed with another text continues as a new run, from its best network."""

import dataclasses

import keras

from common.errors import UserError
from common.saved_runs import SavedRun
from common.text import Text, quoted


def is_requested(config, data: Text) -> bool:
    """Return whether `config.resume` names a run that was trained on another text than `data`.

    A copy of the same text in another place does not count as another text. Nor does the run's own file after a change:
    such a run cannot be resumed, and `runs.Run` raises the error.
    Raises UserError if the run has another alphabet, or does not know all characters of another text and
    `config.map_unknown` is not set.
    """
    if not config.resume:
        return False
    run = SavedRun(config.resume)
    if data.alphabet.characters != run.alphabet:
        raise UserError(f"--train {' '.join(config.train)}: {run.folder} has another alphabet; start a new run")
    if data.digest == run.digest or list(config.train) == run.settings.get("train"):
        return False
    if data.missing and not config.map_unknown:
        raise UserError(
            f"{data.name} holds {quoted(data.missing)}, which {run.folder} does not know; "
            "--map_unknown replaces unknown characters"
        )
    return True


def start(config, network: keras.Model, averaged_network: keras.Model):
    """Set both networks to the best one of the run `config.resume`, and return the config of the new run."""
    run = SavedRun(config.resume)
    run.restore("best", averaged_network=averaged_network)
    network.set_weights(averaged_network.get_weights())
    name = "" if config.name == run.settings["name"] else config.name  # the name of the old run is taken
    return dataclasses.replace(config, resume="", name=name)
