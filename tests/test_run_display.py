"""What a run shows while it trains fits a usual terminal, and floods no file."""

import io

import pytest
from rich.console import Console

from common import run_display
from common.run_schedule import Schedule

LOSSES = {"generator_loss": 1.004, "discriminator_loss": 1.213}


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(run_display.time, "monotonic", lambda: now[0])
    return now


def test_eighty_columns_cut_nothing():
    display = run_display.Display()
    display.report("1,454 images/s", LOSSES | {"gradient_penalty": 0.123}, "125:28")
    display.move("epoch 12/26  step 11,200/24,000", 0.45)
    screen = Console(file=io.StringIO(), width=80)
    for part in display.get_renderables():
        screen.print(part)
    printed = " ".join(screen.file.getvalue().split())
    assert "epoch 12/26 step 11,200/24,000 ━" in printed
    assert "━ 125:28 left 1,454 images/s" in printed
    assert "generator_loss 1.004 discriminator_loss 1.213 gradient_penalty 0.123" in printed


def test_elsewhere_a_line_is_printed_every_ten_seconds_and_at_the_end(clock, capsys):
    display = run_display.Display()
    with display:
        for second in range(25):
            clock[0] = float(second)
            display.report("100 images/s", LOSSES, "" if second < 5 else "1:00")
            display.move(f"epoch 1  step {second}", 0.0)
    figures = "100 images/s  generator_loss 1.004  discriminator_loss 1.213  1:00 left"
    assert capsys.readouterr().out.splitlines() == [f"epoch 1  step {step}  {figures}" for step in (10, 20, 24)]


def test_a_place_names_totals_only_where_there_are_some():
    assert Schedule(100, 8, 800, 0, 50).place(0, 50) == "epoch 1/8  step 50/800"
    assert Schedule(100, 10**7, 10**9, 5, 50).place(2, 1250) == "epoch 3  step 1,250"
