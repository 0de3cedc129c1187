"""Print the figures of benchmarks.engine as a table."""

from __future__ import annotations

from typing import Any


def table(found: dict[str, Any]) -> str:
    """Return the figures as plain text."""
    lines = [
        f"{found['threads']} threads, torch {found['torch']}, {found['rounds']} rounds; seconds are medians",
        "",
        f"{'one epoch':12}{'batch':>6}{'ours':>9}{'conventional':>14}{'ratio':>8}"
        f"{'no teacher':>12}{'ratio':>8}{'roof':>7}",
    ]
    for epoch in found["epochs"]:
        seconds = {name: f"{values['median']:.2f} s" for name, values in epoch["seconds"].items()}
        plain = f"{epoch['plain_ratio']:.1f}" if "plain_ratio" in epoch else ""
        roof = f"{epoch['roof']:.0%}" if "roof" in epoch else ""
        lines.append(
            f"{epoch['student']:12}{epoch['batch_size']:>6}{seconds['ours']:>9}"
            f"{seconds['conventional']:>14}{epoch['epoch_ratio']:>8.1f}"
            f"{seconds.get('conventional without teacher', ''):>12}{plain:>8}{roof:>7}"
        )
    lines.append("")
    lines += [f"{name:24}{text}" for name, text in _figures(found)]
    return "\n".join(lines)


def _figures(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return name and text of the other figures."""
    sweep, teacher, growth = found["grid"], found["teacher_pass"], found["growth"]
    good = found["time_to_975"]
    per_image = [
        f"{value:.2f} µs per image at {int(size):,}"
        for size, value in growth["microseconds_per_image"].items()
    ]
    figures = [
        (
            "epoch_ratio_with_cache",
            f"{found['epoch_ratio_with_cache']:.1f} over 5 epochs of mlp-128 at 128, teacher's pass included",
        ),
        (
            "teacher_pass",
            f"{teacher['ratio']:.2f} of the default layout's speed, {teacher['roof']:.0%} of the roof, "
            f"{teacher['seconds']['ours']['median']:.1f} s for {teacher['images']:,} images",
        ),
        ("with_control", f"{found['with_control']['ratio']:.2f} of two separate trainings' time"),
        (
            "grid",
            f"{sweep['students']} {sweep['student']} together: one epoch takes "
            f"{sweep['seconds']['together']['median']:.2f} s, {sweep['roof']:.0%} of the roof; "
            f"one after another {sweep['ratio']:.1f} times as long with the loop of kd distil, "
            f"{sweep['ratio_alone']:.1f} times with the sweep's own",
        ),
        (
            "time_to_975",
            f"{good['ratio']:.3f} of a conventional epoch "
            f"({good['seconds']['shipped logits']['median']:.2f} s) with shipped logits, "
            f"{good['ratio_without_shipped_logits']:.3f} with logits computed during training",
        ),
        ("growth", ", ".join(per_image)),
        (
            "memory",
            f"training adds {growth['added_mb']:.0f} MB; the training images take "
            f"{growth['images_mb']:.0f} MB",
        ),
    ]
    for watched in found["watched"]:
        figures.append(
            (
                "watched",
                f"{watched['ratio']:.2f} of its speed with {watched['viewers']} polling, "
                f"{watched['ticks_per_second']:.0f} ticks per second",
            )
        )
    return figures
