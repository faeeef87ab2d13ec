"""Sums as a text to train on: whether a network has learned to add can be checked exactly."""

import hashlib

import numpy as np

from common.text import MOST_VALIDATED, UNKNOWN, Alphabet, Text

EPOCH_LENGTH = 1_000_000  # characters
MOST_HELD_OUT = 10_000  # sums of each kind


class Sums(Text):
    """Random sums such as 612+59=671, each on its own line; no two epochs are alike.

    held_out: pairs of numbers that training never adds, in neither order, int64 (N, 2): 10,000, or a twentieth of all
    if that is fewer. As many others, of which the same is true, are the validation text.
    """

    def __init__(self, digits: int, reverse: bool):
        """Choose the held-out pairs of numbers with at most `digits` digits; reverse: write each answer backwards.

        A reversed answer begins with its last digit, which depends on the last digits of both numbers only.
        """
        self._limit, self._reverse, self._epoch = 10**digits, reverse, None
        count, random = min(MOST_HELD_OUT, self._limit**2 // 20), np.random.default_rng(0)
        pairs = np.unique(np.sort(random.integers(self._limit, size=(4 * count, 2))), axis=0)
        pairs = random.permuted(random.permutation(pairs)[: 2 * count], axis=1)  # each in a random order
        self._is_kept_apart = np.zeros((self._limit, self._limit), bool)
        self._is_kept_apart[*pairs.T] = self._is_kept_apart[*pairs.T[::-1]] = True
        self.held_out, validation = np.split(pairs, 2)
        alphabet = Alphabet("\n+0123456789=" + UNKNOWN)
        lines = "".join(map(self.line, validation))
        name = f"sums of numbers up to {self._limit - 1}" + (", answers reversed" if reverse else "")
        name += ", some held out in both orders"
        super().__init__(alphabet, alphabet.encode(lines), name, hashlib.sha256(name.encode()).hexdigest())
        self.validation, self.length = self.indices[:MOST_VALIDATED], EPOCH_LENGTH
        self.training = np.broadcast_to(np.uint8(0), EPOCH_LENGTH)  # a placeholder of the right length

    def question(self, pair) -> str:
        """Return the part of a line before the answer: "612+59="."""
        return f"{pair[0]}+{pair[1]}="

    def answer(self, pair) -> str:
        """Return the sum of both numbers as the network should write it."""
        answer = str(pair[0] + pair[1])
        return answer[::-1] if self._reverse else answer

    def line(self, pair) -> str:
        """Return a whole line: question, answer and line end."""
        return f"{self.question(pair)}{self.answer(pair)}\n"

    def epoch_indices(self, config, epoch: int) -> np.ndarray:
        """Return the indices of an epoch's sums, which `config.seed` and the number of the epoch determine."""
        if self._epoch != (config.seed, epoch):
            self._epoch, self._epoch_indices = (config.seed, epoch), self._draw(config.seed, epoch)
        return self._epoch_indices

    def _draw(self, seed: int, epoch: int) -> np.ndarray:
        random, text = np.random.default_rng([1, seed, epoch]), ""
        while len(text) < self.length:
            pairs = random.integers(self._limit, size=(10_000, 2))
            pairs = pairs[~self._is_kept_apart[*pairs.T]]
            text += "".join(map(self.line, pairs.tolist()))
        return self.alphabet.encode(text[: self.length])
