"""Write docs/results.md from what the benchmarks left in outputs/benchmarks/.

What is newer there is first taken over into docs/measured/, and its pictures into docs/; so a figure stays, with the
machine that it was measured on, until its benchmark is run again.

    python -m benchmarks.report
"""

import itertools
import json
import re
import shutil
from pathlib import Path

import numpy as np

from benchmarks import compare_char_rnn
from benchmarks.compare_dcgan import MILESTONE_IMAGES
from benchmarks.quality import FOLDER

DOCS = Path("docs")


def seconds_to(distance: float, points: list[dict]) -> float:
    """Return when a curve first reaches a distance, interpolated between measurements over log time.

    If it is there at its first measurement, that one's time; nan if it never is.
    """
    points = [point for point in points if point["seconds"] > 0]
    if points[0]["frechet_distance"] <= distance:
        return points[0]["seconds"]
    for before, after in itertools.pairwise(points):
        if before["frechet_distance"] > distance >= after["frechet_distance"]:
            share = np.log(before["frechet_distance"] / distance)
            share /= np.log(before["frechet_distance"] / after["frechet_distance"])
            return float(before["seconds"] * (after["seconds"] / before["seconds"]) ** share)
    return float("nan")


def comparison(result: dict) -> list[str]:
    """Return the section on dcgan_mnist.py against the tutorial's network."""
    curves = {name: [p for p in result["points"] if p["contender"] == name] for name in ("ours", "tutorial")}
    milestone = next((point for point in curves["tutorial"] if point["images"] == MILESTONE_IMAGES), None)
    last = {name: points[-1] for name, points in curves.items()}
    lines = [
        "## dcgan_mnist.py against the DCGAN of TensorFlow's tutorial",
        "",
        "`python -m benchmarks.compare_dcgan`: both in one process, in turns; Fréchet distance of 10,000 generated",
        "images to the 10,000 test images of MNIST, in the features of the benchmark's classifier. Training images are",
        f"at {result['floor']:.2f} from the test images.",
        "",
        "![distance over minutes](compare_dcgan.png)",
        "",
        "| | seconds of training | of processor time | images seen | distance | times that of training images |",
        "|---|---|---|---|---|---|",
    ]
    for label, point in (
        ("tutorial, rough digits", milestone),
        ("tutorial, as far as it was trained", last["tutorial"]),
        ("ours, at its end", last["ours"]),
    ):
        if point:
            distance = point["frechet_distance"]
            lines.append(
                f"| {label} | {point['seconds']:,.0f} | {point['processor_seconds']:,.0f} | {point['images']:,} | "
                f"{distance:.2f} | {distance / result['floor']:.1f} |"
            )
    best = min(curves["tutorial"], key=lambda point: point["frechet_distance"])
    lines.append("")
    for goal, name in ((milestone, "distance at its rough digits"), (best, "best distance")):
        if goal:
            sooner = goal["seconds"] / (reached := seconds_to(goal["frechet_distance"], curves["ours"]))
            lines.append(
                f"The tutorial's {name}, {goal['frechet_distance']:.1f} after {goal['images']:,} images and "
                f"{goal['seconds']:,.0f} s, ours reaches after {reached:.0f} s: {sooner:.0f} times sooner."
            )
    lines += [
        "",
        "All measurements:",
        "",
        "| | seconds | images | distance | entropy of classes (even: 2.303) |",
        "|---|---|---|---|---|",
    ]
    for point in result["points"]:
        lines.append(
            f"| {point['contender']} | {point['seconds']:,.0f} | {point['images']:,} | "
            f"{point['frechet_distance']:.2f} | {point['class_entropy']:.3f} |"
        )
    return lines


def comparison_in_color(result: dict) -> list[str]:
    """Return the section on gan_cifar10.py against the tutorial's network, widened."""
    how = "all in one process, in turns"
    if cores := result.get("cores"):
        how = f"all at the same time, each on {cores} core{'s' if cores > 1 else ''} of its own (`--at_once`)"
    lines = [
        "## gan_cifar10.py against the DCGAN of TensorFlow's tutorial, widened to CIFAR-10",
        "",
        f"`python -m benchmarks.compare_cifar10`: {how}; Fréchet distance of 10,000 generated",
        "images to the 10,000 test images, in the features of the benchmark's classifier. Training images are at",
        f"{result['floor']:.2f} from the test images. Ours is trained anew for each number of minutes, as its step",
        "size falls towards their end.",
        "",
        "![distance over minutes](compare_cifar10.png)",
        "",
        "| minutes | ours | tutorial, widened | ratio | images a second, ours | tutorial |",
        "|---|---|---|---|---|---|",
    ]
    rivals = [point for point in result["points"] if point["contender"] == "tutorial"]
    ends = {point["contender"]: point for point in result["points"] if point["contender"] != "tutorial"}
    for end in ends.values():
        rival = min(rivals, key=lambda point: abs(point["seconds"] - end["seconds"]))
        distances = end["frechet_distance"], rival["frechet_distance"]
        rates = [f"{point['images'] / point['seconds']:,.0f}" for point in (end, rival)]
        lines.append(
            f"| {end['seconds'] / 60:.0f} | {distances[0]:.1f} | {distances[1]:.1f} | "
            f"{distances[0] / distances[1]:.2f} | {' | '.join(rates)} |"
        )
    return lines


def speed(result: dict) -> list[str]:
    """Return the section on images a second."""
    ratio = result["ratio"]
    return [
        "## Speed",
        "",
        "`python -m benchmarks.speed`: the same network and batch, in turns in one process.",
        "",
        "| | images a second | |",
        "|---|---|---|",
        f"| dcgan_mnist.py | {result['images_per_second']['ours']:,.0f} | {result['ours']} |",
        f"| plainest | {result['images_per_second']['plain']:,.0f} | {result['plain']} |",
        "",
        f"Ratio: {ratio['median']:.2f} (median; {ratio['min']:.2f} to {ratio['max']:.2f} over the turns). "
        f"Peak memory of the script's process: {result['peak_megabytes']:,.0f} MB.",
        "",
        f"The first grid was on disk {result['first_grid_seconds']:.1f} s after the command's start. After 60 s the "
        f"newest was that of step {result['steps_after_60_seconds']}:",
        "",
        "![after 60 seconds](after_60_seconds.png)",
    ]


def ablation(result: dict) -> list[str]:
    """Return the section on what each choice bought."""
    lines = [
        "## What each choice in dcgan_mnist.py bought",
        "",
        "`python -m benchmarks.ablate_dcgan`: one choice undone at a time, equal seconds of training, in turns.",
        "",
        "| variant | seconds | images seen | Fréchet distance | entropy of classes |",
        "|---|---|---|---|---|",
    ]
    return lines + [
        f"| {row['variant']} | {row['seconds']:.0f} | {row['images']:,} | {row['frechet_distance']:.1f} | "
        f"{row['class_entropy']:.3f} |"
        for row in result["rows"]
    ]


def tricks(result: dict) -> list[str]:
    """Return the section on what losses and tricks do to vanilla_gan.py."""
    lines = [
        "## What losses, tricks and convolution do in vanilla_gan.py",
        "",
        f"`python -m benchmarks.tricks_vanilla`: {result['rows'][0]['images']:,} images each; mean and standard",
        "deviation over seeds of the Fréchet distance, and of the log-likelihood of the test images under Parzen",
        "windows.",
        "",
        "| variant | Fréchet distance | log-likelihood, nats | entropy of classes | seconds |",
        "|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["variant"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["variant"] == name]
        cells = [name]
        for figure, form in (("frechet_distance", ".1f"), ("log_likelihood", ".0f"), ("class_entropy", ".2f")):
            values = [row[figure] for row in rows]
            cells.append(f"{np.mean(values):{form}} ± {np.std(values, ddof=1):{form}}")
        lines.append(f"| {' | '.join(cells)} | {np.mean([row['seconds'] for row in rows]):.0f} |")
    return lines


def nearest_codes(result: dict) -> list[str]:
    """Return the section on what the nearest codes of autoencoder.py show."""
    names = result["class_names"]
    lines = [
        "## What the nearest codes of autoencoder.py show",
        "",
        f"`python -m benchmarks.codes_autoencoder`: of {result['queries']:,} test pictures each the ten nearest",
        f"among {result['pictures']:,} training pictures; the share of them that show its class, over all and by",
        "class, and the time of a search.",
        "",
        f"| | all | {' | '.join(names)} | ms |",
        "|---" * (len(names) + 3) + "|",
    ]
    for row in result["rows"]:
        shares = (row["precision"], *row["by_class"])
        shares = " | ".join("-" if share is None else f"{share:.3f}" for share in shares)
        lines.append(f"| {row['codes']} | {shares} | {row['milliseconds']:.1f} |")
    return lines


def dreams(result: dict) -> list[str]:
    """Return the section on deep_dream.py against the tutorial."""
    lines = ["## deep_dream.py against TensorFlow's tutorial", ""]
    if step := result.get("step"):
        lines += [
            "`python -m benchmarks.compare_deep_dream`: a step on a picture of 500x375 pixels, InceptionV3 with random",
            "weights, mixed3 and mixed5, float32; in turns, medians. The ratios are to the tutorial's step as",
            "TensorFlow runs it by itself on this processor.",
            "",
            "| | ms | ratio (least to greatest) | ms of processor time | ratio |",
            "|---|---|---|---|---|",
        ]
        for name, it in step.items():
            lines.append(
                f"| {name} | {1000 * it['seconds']:.0f} | {it['ratio']:.2f} ({it['least_ratio']:.2f} to "
                f"{it['greatest_ratio']:.2f}) | {1000 * it['processor_seconds']:.0f} | {it['processor_ratio']:.2f} |"
            )
        lines.append("")
    if activation := result.get("activation"):
        names, seconds = activation["layers"], activation["seconds"]
        lines += [
            f"With {activation['network']} and equal processor time, the mean activation of",
            f"{' and '.join(names)} in the picture as it would be written:",
            "",
            f"| | seconds | steps | {' | '.join(names)} |",
            "|---|---|---|" + "---|" * len(names),
        ]
        for name, means in activation["activations"].items():
            cells = [f"{seconds[name]:.0f}" if name in seconds else "", str(activation["steps"].get(name, ""))]
            lines.append(f"| {name} | {' | '.join(cells + [f'{mean:.1f}' for mean in means])} |")
        lines += ["", f"Their sum: {activation['ratio']:.2f} times the tutorial's."]
    return lines


def comparison_vae(result: dict) -> list[str]:
    """Return the section on vae.py against the tutorial's network."""
    lines = [
        "## vae.py against the convolutional VAE of TensorFlow's tutorial",
        "",
        "`python -m benchmarks.compare_vae`: both with two latents and threshold binarization, in one process, in",
        "turns; mean ELBO of MNIST's 10,000 test images, in nats, and the Fréchet distance as above.",
        "",
        "![ELBO over minutes](compare_vae.png)",
        "",
        "| | seconds of training | images seen | test ELBO | Fréchet distance |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {point['contender']} | {point['seconds']:,.0f} | {point['images']:,} | {point['test_elbo']:.2f} | "
        f"{point['frechet_distance']:.1f} |"
        for point in result["points"]
    ]
    last = {point["contender"]: point for point in result["points"]}
    gain = last["ours"]["test_elbo"] - last["tutorial"]["test_elbo"]
    return [*lines, "", f"After {result['minutes']:g} minutes each, ours is {gain:.1f} nats above the tutorial's."]


def text_comparison(result: dict) -> list[str]:
    """Return the section on char_rnn.py against the tutorial's network and PyTorch's LSTM."""
    name = result["text"]
    flags = " ".join(f"--{flag} {value:g}" for flag, value in {"minutes": result["minutes"], **result["ours"]}.items())
    lines = [
        f"## char_rnn.py against TensorFlow's tutorial and PyTorch's LSTM, {result['minutes']:g} minutes each",
        "",
        f"`python -m benchmarks.compare_char_rnn --train {name} {flags}`: each in a process and on a clock of its own;",
        f"validation loss on the last tenth of {name}, in nats a character, read in 32 parts, each from 256 characters",
        f"before its beginning. nanoGPT publishes {compare_char_rnn.NANOGPT} for a transformer trained on a GPU.",
    ]
    if any(point.get("is_run") for point in result["points"]):
        lines.append("Ours is a run of the script (`--run`), whose minutes hold its validations and samples, too.")
    lines += [
        "",
        f"![validation loss over minutes]({compare_char_rnn.file_name(result['minutes'])}.png)",
        "",
        "| | minutes | characters seen | validation loss | the best until then |",
        "|---|---|---|---|---|",
    ]
    for contender in dict.fromkeys(point["contender"] for point in result["points"]):
        points = [point for point in result["points"] if point["contender"] == contender]
        for until in (10, 30, 60):
            reached = [point for point in points if point["seconds"] <= until * 60 + 60]
            if reached and (last := reached[-1])["seconds"] > until * 60 - 120:
                best = min(point["validation_loss"] for point in reached)
                lines.append(
                    f"| {compare_char_rnn.TITLES[contender]} | {last['seconds'] / 60:.0f} | {last['characters']:,} | "
                    f"{last['validation_loss']:.4f} | {best:.4f} |"
                )
    return lines


def text_speed(result: dict) -> list[str]:
    """Return the section on characters a second."""
    flags = " ".join(f"--{name} {result[name]}" for name in ("width", "batch_size", "window"))
    lines = [
        f"## Characters a second, two layers of {result['width']}",
        "",
        f"`python -m benchmarks.speed_char_rnn {flags}`: {result['batch_size']} windows of {result['window']}",
        "characters at a time; in turns, each in its process.",
        "",
        "| | characters trained on a second | ours is faster by (median; least to most over the turns) |",
        "|---|---|---|",
    ]
    for name, rate in result["training"].items():
        low, median, high = result["ratios"].get(name, (1, 1, 1))
        compared = f"{median:.2f} ({low:.2f} to {high:.2f})" if name in result["ratios"] else ""
        lines.append(f"| {name} | {rate:,.0f} | {compared} |")
    lines += [f"| {name} | cannot | |" for name in result["failures"]]
    return [*lines, "", f"Writing, with the default network: {result['writing']:,.0f} characters a second."]


def arithmetic(result: dict) -> list[str]:
    """Return the section on sums."""
    order = "from their last digit to the first" if result["reverse"] else "as one writes them"
    return [
        "## Sums by char_rnn.py",
        "",
        f"`python -m benchmarks.arithmetic_char_rnn`: {result['digits']} digits, answers {order},",
        f"{result['minutes']:g} minutes of training: {result['right']:,} of {result['asked']:,} held-out sums are "
        f"right, {result['right'] / result['asked']:.2%}.",
    ]


def music(result: dict) -> list[str]:
    """Return the section on tunes."""
    return [
        "## Tunes by char_rnn.py",
        "",
        f"`python -m benchmarks.abc_char_rnn`: after {result['minutes']:g} minutes of training on tunes in ABC",
        f"notation it wrote {result['tunes']} tunes, of which {result['copied']} were among those it was trained on;",
        f"{result['whole']:,} of their {result['bars']:,} bars are as long as the metre says, "
        f"{result['whole'] / max(result['bars'], 1):.1%}.",
    ]


def languages(result: dict) -> list[str]:
    """Return the section on the languages of sentences."""
    names = result["languages"]
    lines = [
        "## Languages told apart by char_rnn.py",
        "",
        f"`python -m benchmarks.classify_char_rnn`: the beginnings of {result['sentences']:,} held-out sentences in",
        f"{len(names)} languages; the share that the network of their own language finds likeliest, and the share that",
        "naive Bayes on the counts of one to four characters gets right. The languages:",
        f"{', '.join(names)}.",
        "",
        "| characters shown | networks | naive Bayes | most often confused |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row['characters']} | {row['networks']:.1%} | {row['naive_bayes']:.1%} | {row['most_confused']} |"
        for row in result["rows"]
    ]
    return lines


SECTIONS = {
    "compare_dcgan": comparison,
    "ablate_dcgan": ablation,
    "speed": speed,
    "tricks_vanilla": tricks,
    "compare_cifar10": comparison_in_color,
    "codes_autoencoder": nearest_codes,
    "compare_deep_dream": dreams,
    "compare_vae": comparison_vae,
    "compare_char_rnn_10": text_comparison,
    "compare_char_rnn_60": text_comparison,
    "speed_char_rnn_256": text_speed,
    "speed_char_rnn_512": text_speed,
    "arithmetic_char_rnn": arithmetic,
    "abc_char_rnn": music,
    "classify_char_rnn": languages,
}


def main():
    """Write docs/results.md from all results that are there."""
    lines = ["# Results", "", "Made by `python -m benchmarks.report` from the benchmarks' own files."]
    (DOCS / "measured").mkdir(parents=True, exist_ok=True)
    for name, section in SECTIONS.items():
        kept, fresh = (folder / f"{name}.json" for folder in (DOCS / "measured", FOLDER))
        if fresh.exists():
            shutil.copyfile(fresh, kept)
        if kept.exists():
            result = json.loads(kept.read_text())
            lines += ["", *section(result), "", f"Measured on {result['measured_on']}."]
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", "\n".join(lines)):
        if (FOLDER / picture).exists():
            shutil.copyfile(FOLDER / picture, DOCS / picture)
    (DOCS / "results.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
