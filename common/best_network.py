"""The best network of a run by its validation loss, and early stopping when no better one comes."""

import keras
import tensorflow as tf

from common.runs import Run


class BestNetwork:
    """The network with the lowest validation loss of a run so far, saved in the run's folder best/.

    variables: its loss and its step, by the names under which they must be saved with the run.
    """

    def __init__(self):
        self.variables = {name: tf.Variable(1e9) for name in ("best_loss", "best_step")}

    def update(self, run: Run, loss: float, **models: keras.Model) -> None:
        """Save models, by name, if their validation `loss` is the lowest so far."""
        if loss < self.variables["best_loss"].numpy():
            self.variables["best_loss"].assign(loss)
            self.variables["best_step"].assign(run.step)
            run.keep_best(**models)

    def patience_is_over(self, run: Run) -> bool:
        """Stop the run after `config.patience` validations without a better one; return whether it stops."""
        patience, best_step = run.config.patience, int(self.variables["best_step"].numpy())
        validations = (run.step - best_step) // run.show_every
        if not 0 < patience <= validations:
            return False
        run.stop(f"no better validation in {patience}: the best was at step {best_step}")
        return True
