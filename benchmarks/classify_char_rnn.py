"""In which language is a sentence? That of the network of char_rnn.py under which it has the highest likelihood.

Each of twelve languages has a network with one layer of 128. The texts are the messages of pretix, a program that sells
tickets, which has been translated by many hands: 80,000 characters of each language. A fifth of the messages, the same
in all languages, is held out. Beside the networks stands the usual baseline: naive Bayes on the counts of one to four
characters (scikit-learn).

Writes outputs/benchmarks/classify_char_rnn.json. Trained networks are used again: delete
outputs/benchmarks/char_rnn/languages-* after changing a setting.

    pip install -r benchmarks/requirements.txt && pip download --no-deps pretix==2026.8.0
    python -m benchmarks.classify_char_rnn --wheel pretix-2026.8.0-py3-none-any.whl
"""

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
from benchmarks import results
from common import cli, devices, files, text
from evaluation import surprisal

NAME = "classify_char_rnn"
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
LENGTHS = (5, 10, 20, 30)  # characters of a message that are shown
SETTINGS = {"layers": 1, "width": 128, "embedding": 32, "dropout": 0.3, "batch_size": 8, "epochs": 10}


def section(result: dict) -> list[str]:
    """Return the lines of docs/results.md."""
    names = result["languages"]
    lines = results.opening(
        "Languages recognised by char_rnn.py",
        "benchmarks.classify_char_rnn --wheel pretix-2026.8.0-py3-none-any.whl",
        f"The beginnings of {result['sentences']:,} held-out sentences in {len(names)} languages: {', '.join(names)}. "
        "The table has the share that has the highest likelihood under the network of its own language, and the share "
        "that naive Bayes on the counts of one to four characters classifies correctly.",
    )
    columns = {
        "characters shown": "{characters}",
        "networks": "{networks:.1%}",
        "naive Bayes": "{naive_bayes:.1%}",
        "most often confused": "{most_confused}",
    }
    return lines + results.table_of(result["rows"], columns)


def split(wheel: zipfile.ZipFile, code: str) -> tuple[list[str], list[str]]:
    """Return the messages to train on, and those held out: a fifth, chosen by their English text. None is in both."""
    polib = results.needed("polib")

    training, held_out = [], []
    entries = polib.pofile(wheel.read(f"pretix/locale/{code}/LC_MESSAGES/django.po").decode()).translated_entries()
    for entry in entries:
        if len(entry.msgstr) >= SHORTEST and not re.search(r"[%{<\\]|://", entry.msgstr):  # not code
            (training if zlib.crc32(entry.msgid.encode()) % 5 else held_out).append(" ".join(entry.msgstr.split()))
    return training, [it for it in sorted(set(held_out) - set(training)) if len(it) >= max(LENGTHS)]


def bits(read, alphabet: text.Alphabet, sentences: list[str]) -> np.ndarray:
    """Return the surprisal in bits of each of some sentences of equal length, under a network: float32 (sentences,).

    Characters that the alphabet lacks do not count.
    """
    rows = [alphabet.encode(alphabet.start + sentence, map_unknown=True) for sentence in sentences]
    return np.nansum(surprisal.surprisal(read, np.stack(rows), alphabet.unknown), axis=1)


def most_confused(labels, found, languages: list[str]) -> str:
    """Return a phrase that names the most frequent confusion.

    labels: the true languages, by number, (sentences,); found: those that were recognised.
    """
    wrong = confusion_matrix(labels, found, labels=range(len(languages)))
    shown = wrong.sum(axis=1)
    np.fill_diagonal(wrong, 0)
    own, other = np.unravel_index(wrong.argmax(), wrong.shape)
    return f"{wrong[own, other]} of {shown[own]} in {languages[own]} taken for {languages[other]}"


def read_texts(wheel: zipfile.ZipFile, folder: Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return, for each language, the lines to train on and the sentences held out; write the former into `folder`."""
    training, held_out = {}, {}
    folder.mkdir(parents=True, exist_ok=True)
    for language, code in LANGUAGES.items():
        known, held_out[language] = split(wheel, code)
        lines = "\n".join(known)[:TRAINED_ON]
        training[language] = lines.split("\n")
        with files.atomic_write(folder / f"{language}.txt") as file:
            file.write(lines.encode())
    return training, held_out


def numbered(texts: dict[str, list[str]]) -> tuple[list[str], np.ndarray]:
    """Return the sentences of all languages, one after the other, and the number of each one's language."""
    sentences = [sentence for own in texts.values() for sentence in own]
    return sentences, np.repeat(np.arange(len(texts)), [len(own) for own in texts.values()])


@cli.one_line_errors
def main(argv=None):
    """Train, classify, print and write the result."""
    parser = results.parser(__doc__)
    parser.add_argument("--wheel", required=True, help="the file that pip downloaded")
    folder = results.FOLDER / "languages"
    with zipfile.ZipFile(parser.parse_args(argv).wheel) as wheel:
        training, held_out = read_texts(wheel, folder)
    paths = tuple(str(folder / f"{language}.txt") for language in LANGUAGES)
    config = char_rnn.Config(train=paths, name="languages", output_dir=str(results.FOLDER), **SETTINGS)
    devices.setup(config)
    alphabet, readers = char_rnn.train_on_each(config)
    counts = CountVectorizer(analyzer="char", ngram_range=(1, 4), lowercase=False)
    bayes = make_pipeline(counts, MultinomialNB(alpha=0.01)).fit(*numbered(training))

    sentences, labels = numbered(held_out)
    rows = []
    for length in cli.progress(LENGTHS, "classifying"):
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
    result = {"seeds": 1, "languages": list(LANGUAGES), "sentences": len(sentences), "rows": rows}
    results.publish(NAME, result, section)


if __name__ == "__main__":
    main()
