"""How benchmarks train their contenders, keep their results and report them; and the tutorials' networks."""

import json
import os
import shutil
import time
import types
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import rows
import tensorflow as tf
from conftest import ROOT

import gan_cifar10
from benchmarks import (
    ablate_dcgan,
    compare_cifar10,
    compare_dcgan,
    compare_vae,
    gpu,
    kill,
    onednn,
    peers,
    quality,
    race,
    report,
    results,
    same_weights,
    speed_since,
    workers,
)
from common import datasets, files
from common.errors import UserError


class StubEvaluator:
    """Stands for evaluation.frechet_distance.Evaluator where no classifier is needed."""

    floor = 1.0

    def measure(self, images):
        return {"frechet_distance": float(len(images)), "class_entropy": 2.0}


def counter(name="counter", **limits):
    """A contender whose step takes no time, and the list of the steps that it has taken."""
    weight, taken = tf.Variable(0.0), []

    def step(number, progress):
        taken.append((number, progress))
        weight.assign_add(1.0)

    def sample(count):
        return np.full((count, 2, 2, 1), int(weight.numpy()), np.uint8)

    def figures():
        return {"frechet_distance": 1.0 + 100.0 / (1.0 + float(weight.numpy()))}

    saved = {"weight": weight}
    return race.Contender(name, Path("race"), step, 8, figures, saved, sample=sample, **limits), taken


def test_runs_that_differ_in_times_and_addresses_alone_are_equal(tiny_run):
    trial, other = (kill.Trial("tiny_script", Path(name)) for name in ("one", "other"))
    for it in (trial, other):
        shutil.copytree(tiny_run, it.folder)
    newest = other.folder / "checkpoints/step_00000093.npz"
    files.write_npz(newest, **(files.read_npz(newest) | {"seconds": np.array(1e6)}))
    with zipfile.ZipFile(tiny_run / "network.keras") as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(other.folder / "network.keras", "w") as file:
        members["config.json"] = members["config.json"].replace(b'"shared_object_id": ', b'"shared_object_id": 1')
        for name, content in (members | {"metadata.json": b"{}"}).items():
            file.writestr(name, content)
    rows = [row.split(",") for row in (other.folder / "metrics.csv").read_text().splitlines()]
    (other.folder / "metrics.csv").write_text(f"{','.join(rows[0])}\n1,50,1e6,2e6,{','.join(rows[1][4:])}\n")
    assert trial.done() == 93
    assert trial.result() == other.result()
    (other.folder / "metrics.csv").write_text(f"{','.join(rows[0])}\n2,{','.join(rows[1][1:])}\n")
    (other.folder / ".final.png.part").touch()
    different = {name for name, _ in trial.result().items() ^ other.result().items()}
    assert different == {"tiny_script/run/metrics.csv, 50", "tiny_script/run/.final.png.part, "}


def test_a_contender_stops_at_its_limits_and_is_measured_there():
    contender, taken = counter(limit=80, stops=(24,))
    points, is_finished = contender.turn(60.0)
    assert (points[0]["images"], len(taken), is_finished) == (24, 3, False)
    points, is_finished = contender.turn(60.0)
    assert ([point["images"] for point in points], is_finished) == ([24, 80], True)
    assert contender.turn(60.0)[0] == points and len(taken) == 10


def test_a_contender_continues_from_its_checkpoint():
    before, _ = counter(limit=160, stops=(40,))
    before.seconds = 29.999  # so that images are kept for the plot, which shows those of 30 seconds
    before.train(10.0)
    before.seconds = 30.5
    before.measure()
    after, taken = counter(limit=160, stops=(40,))
    assert (after.steps, after.seconds, after.points) == (5, 30.5, before.points)
    assert np.array_equal(after.shown[30], before.shown[30]) and after.shown[30].shape == (race.SHOWN, 2, 2, 1)
    after.turn(60.0)
    assert taken[0][0] == 5 and after.saved["weight"].numpy() == 20.0


def test_progress_is_the_part_of_the_time_limit_that_is_over():
    contender, taken = counter(seconds_limit=100.0)
    contender.seconds = 75.0
    contender.turn(1e-9)
    assert taken == [(0, 0.75)] and not contender.is_finished
    contender.seconds = 100.0
    assert contender.is_finished


def test_measurements_are_evenly_spread_over_log_time_and_fall_on_the_times_shown():
    assert race.evenly_in_log_time(0.0) == 5.0
    assert race.evenly_in_log_time(20.0) == 28.0
    assert race.evenly_in_log_time(25.0) == 30.0
    assert race.evenly_in_log_time(4000.0) == 4600.0


def test_contenders_race_and_are_drawn():
    contenders = [counter(name, limit=limit)[0] for name, limit in (("one", 8), ("other", 40))]
    points = race.run(contenders)
    assert [(point["contender"], point["images"]) for point in points] == [("one", 8), ("other", 40)]
    race.draw("race", contenders, 1.0)  # too short for pictures
    contenders[0].shown[30] = contenders[0].sample(race.SHOWN)
    race.draw("race", contenders, 1.0)
    assert (results.FOLDER / "race.png").stat().st_size > 0


def test_batches_are_those_of_the_run():
    data = datasets.load("digits", 8)
    config = gan_cifar10.Config(batch_size=400)  # three batches an epoch
    expected = [race.batch(data, config, number) for number in range(5)]
    of_run = np.concatenate([data.batches(config, 0, 0, 3)[0], data.batches(config, 1, 0, 2)[0]])
    assert np.array_equal(of_run, [images for images, _ in expected])


def test_a_step_is_told_how_much_of_the_training_is_over_by_the_clock_or_by_the_images():
    found = []

    def step(pixels, labels, number, progress):
        found.append(float(progress))
        return {"loss": tf.constant(0.0)}

    data, limits = datasets.load("digits", 8), {"seconds_limit": 60.0, "limit": 80}
    it = race.image_contender("clock", "race", data, 8, step, {}, lambda count: None, StubEvaluator(), **limits)
    it.seconds, it.steps = 45.0, 2
    it.train(1e-9)
    it.steps = 9
    it.train(1e-9)
    assert found == [0.75, 0.9]


def test_a_step_is_given_as_many_arguments_as_it_takes():
    device = types.SimpleNamespace(compile=lambda step: lambda *rows: {"sum": tf.add_n(rows)})
    assert race.one_step(device, lambda pixels, number: None)(*map(tf.constant, (1, 2, 4)))["sum"].numpy() == 3


def test_a_race_at_once_needs_a_core_for_each(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3})
    with pytest.raises(UserError, match="needs a core for each of the 2 contenders"):
        compare_cifar10.train_at_once(2, [])


def test_workers_take_turns_and_report_why_they_cannot():
    Path("clock.py").write_text("""
import sys, time
from benchmarks import gpu, same_weights, speed_since, workers

def prepare():
    print("for the terminal")
    if sys.argv[-1] == "broken":
        raise RuntimeError("has no such\\nthing")
    return workers.timed(lambda: time.sleep(0.01))

workers.work(prepare)
""")
    whole, broken, missing = (
        workers.Worker(name, [program], {"PYTHONPATH": str(ROOT)})
        for name, program in (("whole", "clock.py"), ("broken", "clock.py"), ("missing", "nowhere.py"))
    )
    for _ in range(2):
        seconds, processor_seconds = whole.turn(0.05)
        assert 0.01 <= seconds < 1.0 and processor_seconds < seconds
    whole.end()
    assert (whole.failure, broken.failure, missing.failure) == ("", "has no such", "its process ended")
    with pytest.raises(SystemExit, match="--work broken: has no such"):
        broken.turn(0.05)


def test_the_tutorials_autoencoder_is_as_large_as_the_tutorial_says_and_learns(monkeypatch):
    monkeypatch.setattr(race, "COMPARED", 10)
    pixels = np.random.default_rng(0).choice([0, 255], (32, 28, 28, 1)).astype(np.uint8)
    data = datasets.Images(pixels, np.zeros(32, np.int32), (), "made")
    contender = compare_vae.tutorial(data, data, StubEvaluator(), limit=32 * 10)
    encoder = 9 * 32 + 32 + 9 * 32 * 64 + 64 + 6 * 6 * 64 * 4 + 4
    decoder = 2 * 1568 + 1568 + 9 * 32 * 64 + 64 + 9 * 64 * 32 + 32 + 9 * 32 + 1
    assert [contender.saved[name].count_params() for name in ("encoder", "decoder")] == [encoder, decoder]
    before = contender.figures()["test_elbo"]
    contender.train(60.0)
    assert before == pytest.approx(-784 * np.log(2), rel=0.02)
    assert contender.figures()["test_elbo"] > before


def test_the_tutorials_gans_are_as_large_as_their_descriptions():
    generator = 100 * 12544 + 4 * 12544 + 25 * 256 * 128 + 4 * 128 + 25 * 128 * 64 + 4 * 64 + 25 * 64
    discriminator = 25 * 64 + 64 + 25 * 64 * 128 + 128 + 7 * 7 * 128 + 1
    networks = peers.dcgan()
    assert [networks[name].count_params() for name in ("generator", "discriminator")] == [generator, discriminator]
    generator = 100 * 4096 + 4 * 4096 + 16 * 256 * 128 + 4 * 128 + 16 * 128 * 64 + 4 * 64 + 16 * 64 * 3
    discriminator = 16 * 3 * 64 + 64 + 16 * 64 * 128 + 128 + 16 * 128 * 256 + 256 + 4 * 4 * 256 + 1
    networks = peers.wide_dcgan()
    assert [networks[name].count_params() for name in ("generator", "discriminator")] == [generator, discriminator]


def test_a_figure_stays_with_its_machine_until_it_is_measured_again(monkeypatch):
    def section(result):
        return [f"{result['right']} right", "![a plot](plot.png)"]

    monkeypatch.setattr(report, "SECTIONS", {"one": section, "other": section})
    monkeypatch.setattr(results, "machine", lambda: "the first machine")
    results.write_json("one", {"right": 1})
    results.write_json("other", {"right": 2})
    (results.FOLDER / "plot.png").write_bytes(b"drawn")
    report.main()
    assert Path("docs/plot.png").read_bytes() == b"drawn"
    shutil.rmtree("outputs")  # another machine
    monkeypatch.setattr(results, "machine", lambda: "the second machine")
    results.write_json("other", {"right": 3})
    report.main()
    lines = Path("docs/results.md").read_text().splitlines()
    shown = [line.split(" Commit")[0] for line in lines if "right" in line or "machine" in line]
    assert shown == ["1 right", "Measured on the first machine.", "3 right", "Measured on the second machine."]


def test_the_page_is_that_of_the_measured_figures():
    page = (ROOT / "docs/results.md").read_text()
    shutil.copytree(ROOT / "docs/measured", "docs/measured")
    report.main()
    assert Path("docs/results.md").read_text() == page


def test_tables():
    rows = [{"seconds": 61.25, "name": "one"}, {"seconds": 1200.0, "name": "two", "more": 0}]
    lines = results.table_of(rows, {"": "{name}", "s": "{seconds:,.0f}"})
    assert lines == ["", "|  | s |", "|---|---|", "| one | 61 |", "| two | 1,200 |"]


def test_a_package_that_is_missing_is_named():
    with pytest.raises(UserError, match="no_such_package is not installed: pip install -r"):
        results.needed("no_such_package")


def test_time_to_a_distance_is_interpolated():
    points = [{"seconds": seconds, "frechet_distance": distance} for seconds, distance in ((0, 99), (10, 40), (40, 10))]
    assert compare_dcgan.seconds_to(20, points) == pytest.approx(20)
    assert np.isnan(compare_dcgan.seconds_to(5, points))
    assert compare_dcgan.seconds_to(60, points) == 10


def test_section_of_the_dcgans_says_how_much_sooner():
    def point(contender, seconds, images, distance):
        times = {"seconds": seconds, "processor_seconds": 2 * seconds}
        return {"contender": contender, **times, "images": images, "frechet_distance": distance, "class_entropy": 2.0}

    rough = point("tutorial", 700.0, compare_dcgan.MILESTONE, 200.0)
    points = [point("ours", 5.0, 1_000, 120.0), point("ours", 10.0, 2_000, 30.0), rough]
    points += [point("tutorial", 800.0, 500_000, 60.0), point("tutorial", 900.0, 600_000, 80.0)]
    page = " ".join(compare_dcgan.section({"floor": 2.0, "points": points}))
    assert "| tutorial, at its end | 900 | 1,800 | 600,000 | 80.00 | 40.0 |" in page
    assert (
        "at its first rough digits is 200.0, after 409,600 images and 700 s. Ours reaches it after 5 s, 140 times"
        in page
    )
    assert "at its best is 60.0, after 500,000 images and 800 s. Ours reaches it after 7 s, 113 times sooner." in page


def test_section_of_the_autoencoders():
    points = [
        {"contender": name, "seconds": 60.0, "images": 100, "test_elbo": elbo, "frechet_distance": 5.0}
        for name, elbo in (("ours", -120.0), ("ours", -110.5), ("tutorial", -140.0))
    ]
    lines = compare_vae.section({"minutes": 1.0, "points": points})
    assert lines[-1] == "After 1 minutes each, ours is 29.5 nats above the tutorial's."


def test_section_in_color_compares_at_equal_minutes():
    points = [
        {"contender": name, "seconds": seconds, "images": 1200, "frechet_distance": distance}
        for name, seconds, distance in (
            *(("ours, 1 minutes", 30.0, 9.0), ("ours, 1 minutes", 60.0, 5.0), ("ours, 2 minutes", 120.0, 4.0)),
            *(("tutorial", 30.0, 99.0), ("tutorial", 61.0, 20.0), ("tutorial", 120.0, 16.0)),
        )
    ]
    own = {"batch_size": 256, "learning_rate": 2e-4}
    result = {"minutes": [1.0, 2.0], "seeds": 1, "setting": own, "search": None, "floor": 0.1, "points": points}
    lines = compare_cifar10.section(result)
    assert lines[-2:] == ["| 1 | 5.0 | 20.0 | 0.25 | 20 | 10 |", "| 2 | 4.0 | 16.0 | 0.25 | 10 | 10 |"]
    assert "compare_cifar10 --minutes 1 2 --seeds 1" in lines[2] and "in one process, in turns." in lines[4]
    at_once = compare_cifar10.section({**result, "cores": 1})
    assert "--minutes 1 2 --at_once" in at_once[2] and "each on 1 core of its own." in at_once[4]


@pytest.mark.parametrize(
    ("script", "changes"),
    [
        ("vanilla_gan", {"width": 8, "batch_size": 4}),
        ("gan_cifar10", {"generator_width": 4, "discriminator_width": 4, "image_size": 16, "batch_size": 4}),
        ("char_rnn", {"width": 8, "window": 4, "batch_size": 4}),
        ("deep_dream", {"max_size": 60}),
    ],
)
def test_a_row_of_the_table_of_speeds_on_a_gpu(script, changes):
    row = gpu.measure(script, "float32", "off", 0.01, changes)
    assert 1 <= row["steps"] <= 50
    assert row["ratio"] == pytest.approx(row["many"] / row["one"])
    assert row["device"] == "CPU"
    result = {"device": "CPU", "left_out": ["vae.py in float32, XLA on"], "rows": [row]}
    assert f"| {script}.py | float32 | off |" in "\n".join(gpu.section(result))


def test_rows_that_fail_crash_or_hang_say_so_and_the_others_follow(capsys):
    options = types.SimpleNamespace(seconds=600.0, longest=60.0, turn=0.1)
    names = ("works", "raises", "crashes", "works")
    result = gpu.measure_all([(name, "float32", "off") for name in names], options, rows.row_of, rows.prepare)
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        "works.py | float32 | off | 4.50 | 9,000 | 2000.1 | 50 | 97 % | 812",
        "raises.py | float32 | off | ValueError: OOM when allocating / float32 |  |  |  |  | ",
        "crashes.py | float32 | off | its process ended with status -6 |  |  |  |  | ",
        "works.py | float32 | off | 4.50 | 9,000 | 2000.1 | 50 | 97 % | 812",
    ]
    written = json.loads(Path("outputs/benchmarks/gpu.json").read_text())
    assert (written["device"], written["rows"], written["left_out"]) == ("a GPU", result["rows"], [])
    lines = gpu.section(result)
    assert lines[-4] == f"| {printed[0]} |"
    assert {line.count("|") for line in lines[-6:]} == {10}


def test_no_row_lasts_longer_than_what_is_left():
    options = types.SimpleNamespace(seconds=3.0, longest=2.0, turn=0.1)
    started = time.monotonic()
    result = gpu.measure_all([("hangs", "float32", jit) for jit in ("off", "on")], options, rows.row_of, rows.prepare)
    assert time.monotonic() - started < 6
    assert [row["failure"] for row in result["rows"]] == ["not over after 2 s"]
    assert result["left_out"] == ["hangs.py in float32, XLA on"]


def test_the_rate_of_a_turn_is_that_of_the_script(monkeypatch):
    flags = ("--data", "digits", "--image_size", "8", "--width", "8", "--epochs", "9", "--precision", "float32")
    monkeypatch.setattr(speed_since, "FLAGS", flags)
    assert speed_since.rate(same_weights.ROOT, "vanilla_gan", 60, {}) > 0


def test_time_of_an_operation_and_section_of_onednn(monkeypatch):
    monkeypatch.setattr(onednn, "CALLS", 3)
    calls = onednn.gradients_of(onednn.convolution(2), (1, 4, 4, 1))
    assert np.isfinite(calls()) and calls() != 0.0
    rows = [{"operation": "dense, 3 to 4 units", "off": 2.0, "on": 1.0, "ratio": 1.9}]
    lines = onednn.section({"as_avx2": True, "rounds": 5, "threads": 2, "rows": rows})
    assert lines[2] == "    python -m benchmarks.onednn --as_avx2" and "on 2 cores" in lines[4]
    assert lines[-1] == "| dense, 3 to 4 units | 2.00 | 1.00 | 1.90 |"


def test_the_tutorials_dream_ends_at_the_size_of_ours(monkeypatch):
    inputs = keras.Input((None, None, 3))
    network, sizes = keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs)), []
    resize = tf.image.resize
    monkeypatch.setattr(
        tf.image, "resize", lambda image, size: sizes.append(tuple(size.numpy())) or resize(image, size)
    )
    image = np.random.default_rng(0).uniform(-1, 1, (40, 60, 3)).astype(np.float32)
    dreamt = peers.dream(image, network, steps=1)
    assert sizes == [(14, 21), (18, 27), (23, 35), (30, 46), (40, 60)]
    assert dreamt.shape == image.shape and not np.array_equal(dreamt, image)


def test_the_tutorials_best_setting_is_searched_for_on_held_out_images(monkeypatch):
    data, asked = datasets.load("patches", 32), []
    monkeypatch.setattr(quality, "load", lambda *arguments: asked.append(arguments) or (data, data))

    class Evaluator(StubEvaluator):
        def __init__(self):
            self.distances = iter([9.0, 5.0, 7.0, 8.0])

        def measure(self, images):
            return {"frechet_distance": next(self.distances)}

    stub = Evaluator()
    monkeypatch.setattr(quality, "evaluator", lambda *splits: stub)
    monkeypatch.setattr(race, "COMPARED", 2)
    monkeypatch.setattr(compare_cifar10, "BATCH_SIZES", (2, 4))
    monkeypatch.setattr(compare_cifar10, "LEARNING_RATES", (1e-4, 2e-4))
    found = compare_cifar10.search(minutes=1e-9)
    assert asked == [("cifar10", 32, "validation")]
    assert [(it["batch_size"], it["learning_rate"]) for it in found["tried"]][:2] == [(2, 2e-4), (4, 1e-4)]
    assert [it["frechet_distance"] for it in found["tried"]] == [5.0, 7.0, 8.0, 9.0]


def test_the_tutorial_is_quoted_with_its_best_value_so_far_and_all_with_the_spread_of_the_seeds():
    def points(contender, seed, *distances):
        rows = enumerate(distances, start=1)
        shared = {"contender": contender, "seed": seed}
        return [{**shared, "seconds": 60.0 * n, "images": 600 * n, "frechet_distance": it} for n, it in rows]

    ours = [*points("ours, 2 minutes", 0, 9.0, 6.0), *points("ours, 2 minutes", 1, 9.0, 8.0)]
    tutorial = [*points("tutorial", 0, 30.0, 40.0, 10.0), *points("tutorial", 1, 50.0, 32.0, 10.0)]
    result = {
        "minutes": [2.0],
        "seeds": 2,
        "setting": {"batch_size": 64, "learning_rate": 5e-4},
        "search": {"minutes": 5.0, "tried": [{}] * 9},
        "floor": 0.1,
        "points": ours + tutorial,
    }
    lines = compare_cifar10.section(result)
    assert lines[-1] == "| 2 | 7.0 ± 1.4 | 31.0 ± 1.4 | 0.23 | 10 | 10 |"
    assert "batches of 64 and a step size of 0.0005, the best of 9 settings" in " ".join(lines)


def test_a_section_ends_with_how_it_was_measured():
    measured = {"measured_on": "a machine", "measured_commit": "0123456", "measured_date": "2026-01-02"}
    end = "Measured on a machine. Commit 0123456, 2026-01-02."
    assert results.closing({**measured, "seeds": 1}) == f"One seed. {end}"
    assert results.closing({**measured, "seeds": 3, "note": "A draft."}) == f"A draft. 3 seeds. {end}"
    assert results.closing({"measured_on": "a machine"}) == "Measured on a machine."
    written = results.write_json("made", {"seeds": 2})
    assert written == json.loads(Path("outputs/benchmarks/made.json").read_text())
    assert "TensorFlow" in written["measured_on"] and written["measured_date"].count("-") == 2
    assert results.spread([1.0, 2.0, 3.0], ".1f") == "2.0 ± 1.0" and results.spread([1.0], ".1f") == "1.0"


def test_every_figure_of_trained_networks_says_how_many_seeds_it_is_of():
    without_training = ("speed", "gpu", "startup", "onednn", "compare_deep_dream")
    for path in (ROOT / "docs/measured").glob("*.json"):
        result = json.loads(path.read_text())
        assert path.stem.startswith(without_training) or result["seeds"] >= 1, path
        assert result["measured_on"]


def test_a_choice_that_is_undone_has_the_spread_of_its_seeds():
    rows = [
        {"contender": name, "seed": seed, "seconds": 60.0, "images": 1000, "frechet_distance": it, "class_entropy": 2.3}
        for name, seed, it in (("default", 0, 4.0), ("default", 1, 6.0), ("with XLA", 0, 5.0), ("with XLA", 1, 5.0))
    ]
    lines = ablate_dcgan.section({"split": "validation", "seeds": 2, "rows": rows})
    assert lines[-2] == "| default | 60 ± 0 | 1,000 ± 0 | 5.0 ± 1.4 | 2.300 ± 0.000 |"
    assert "Distances are to 10,000 training images that were held out." in " ".join(lines)
