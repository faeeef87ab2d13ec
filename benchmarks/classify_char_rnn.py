"""In which language is a sentence? The one of twelve networks of char_rnn.py that finds it likeliest tells.

There is a network with one layer of 128 for each language. The texts are the messages of pretix, a program to sell
tickets with, which has been translated by many hands: 80,000 characters of each language. A fifth of the messages, the
same ones in all languages, is held out. Beside the networks stands what one would write without: naive Bayes on the
counts of one to four characters (scikit-learn).

Writes outputs/benchmarks/classify_char_rnn.json. Networks that are trained already are used again: delete
outputs/benchmarks/char_rnn/languages-* after changing a setting.

    pip install -r benchmarks/requirements.txt && pip download --no-deps pretix==2026.8.0
    python -m benchmarks.classify_char_rnn --wheel pretix-2026.8.0-py3-none-any.whl
"""

import argparse
import re
import zipfile
import zlib
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import confusion_matrix
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

import char_rnn
from benchmarks import quality
from common import cli, devices, files, text

LANGUAGES = {
    "Basque": "eu",
    "Danish": "da",
    "Dutch": "nl",
    "Finnish": "fi",
    "French": "fr",
    "German": "de",
    "Italian": "it",
    "Norwegian": "nb_NO",
    "Polish": "pl",
    "Portuguese": "pt_PT",
    "Spanish": "es",
    "Swedish": "sv",
}
SHORTEST = 30  # characters of a message
TRAINED_ON = 80_000  # characters of each language
LENGTHS = (5, 10, 20, 30)  # how many characters of a message are shown


def split(wheel: zipfile.ZipFile, code: str) -> tuple[list[str], list[str]]:
    """Return the messages to train on, and those held out: a fifth, chosen by their English. None is in both."""
    polib = quality.needed("polib")

    training, held_out = [], []
    entries = polib.pofile(wheel.read(f"pretix/locale/{code}/LC_MESSAGES/django.po").decode()).translated_entries()
    for entry in entries:
        if len(entry.msgstr) >= SHORTEST and not re.search(r"[%{<\\]|://", entry.msgstr):  # not code
            (training if zlib.crc32(entry.msgid.encode()) % 5 else held_out).append(" ".join(entry.msgstr.split()))
    return training, [it for it in sorted(set(held_out) - set(training)) if len(it) >= max(LENGTHS)]


def bits(read, alphabet: text.Alphabet, sentences: list[str]) -> np.ndarray:
    """Return a network's bits for each of some sentences of equal length: float32 (sentences,)."""
    rows = [alphabet.encode(alphabet.opening + sentence, map_unknown=True) for sentence in sentences]
    losses, _ = read(np.stack(rows))
    return losses.sum(axis=1) / np.log(2)


def most_confused(labels, found, languages: list[str]) -> str:
    """Tell which language is most often taken for which other, given the languages' numbers, (sentences,)."""
    wrong = confusion_matrix(labels, found, labels=range(len(languages)))
    shown = wrong.sum(axis=1)
    np.fill_diagonal(wrong, 0)
    own, other = np.unravel_index(wrong.argmax(), wrong.shape)
    return f"{wrong[own, other]} of {shown[own]} in {languages[own]} taken for {languages[other]}"


@cli.one_line_errors
def main(argv=None):
    """Train, classify, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", required=True, help="the file that pip downloaded")
    folder = quality.FOLDER / "languages"
    folder.mkdir(parents=True, exist_ok=True)
    paths, training, sentences, classes, labels = [], [], [], [], []
    with zipfile.ZipFile(parser.parse_args(argv).wheel) as wheel:
        for label, (language, code) in enumerate(LANGUAGES.items()):
            known, held_out = split(wheel, code)
            lines = "\n".join(known)[:TRAINED_ON]
            paths.append(str(folder / f"{language}.txt"))
            with files.whole(Path(paths[-1])) as file:
                file.write(lines.encode())
            training += lines.split("\n")
            classes += [label] * (lines.count("\n") + 1)
            sentences += held_out
            labels += [label] * len(held_out)
    labels = np.array(labels)

    small = {"layers": 1, "width": 128, "embedding": 32, "dropout": 0.3, "batch_size": 8, "epochs": 10}
    config = char_rnn.Config(train=tuple(paths), name="languages", output_dir=str(quality.FOLDER), **small)
    devices.setup(config)
    alphabet, readers = char_rnn.train_rivals(config)
    counts = CountVectorizer(analyzer="char", ngram_range=(1, 4), lowercase=False)
    bayes = make_pipeline(counts, MultinomialNB(alpha=0.01))
    bayes.fit(training, classes)

    rows = []
    print(f"{len(sentences):,} sentences; shown of each: right, and by naive Bayes")
    for length in LENGTHS:
        shown = [sentence[:length] for sentence in sentences]
        found = np.stack([bits(read, alphabet, shown) for read in readers.values()]).argmin(axis=0)
        rows.append(
            {
                "characters": length,
                "networks": float((found == labels).mean()),
                "naive_bayes": float((bayes.predict(shown) == labels).mean()),
                "most_confused": most_confused(labels, found, list(LANGUAGES)),
            }
        )
        print(f"  {length} characters: {rows[-1]['networks']:.2%}, {rows[-1]['naive_bayes']:.2%}", flush=True)
    quality.write_json("classify_char_rnn", {"languages": list(LANGUAGES), "sentences": len(sentences), "rows": rows})


if __name__ == "__main__":
    main()
